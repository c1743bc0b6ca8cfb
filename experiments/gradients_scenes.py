"""What moves the encoders on the drawn scenes: the losses' gradients at the end of `ablation_scenes`, arm all."""

from experiments.experiment import Arm, Experiment, Stage
from experiments.prepare_data import prepare_scenes


def measured(title: str, encoder: str) -> Arm:
    """Of one encoder."""
    options = {"run": "$runs/../ablation_scenes/all/$seed/pretrain", "encoder": encoder}
    return Arm(title, (Stage("measure", ("-m", "experiments.gradient_shares"), options),))


EXPERIMENT = Experiment(
    "Gradients on drawn scenes: length in percent of the sum, and 100 x cosine with CMA's",
    arms={"image": measured("image encoder", "image"), "text": measured("text encoder", "text")},
    seeds=(0, 1, 2),
    columns={
        "cma": "CMA",
        "imc": "IMC",
        "lmi": "LMI",
        "itm": "ITM",
        "mlm": "MLM",
        "imc_with_cma": "cosine of IMC",
        "lmi_with_cma": "cosine of LMI",
        "itm_with_cma": "cosine of ITM",
        "mlm_with_cma": "cosine of MLM",
    },
    compared=("lmi", "lmi_with_cma"),
    prepare=prepare_scenes,
)
