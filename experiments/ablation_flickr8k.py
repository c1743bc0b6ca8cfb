"""The paper's contrastive losses on photographs: those of `flickr8k`, without a fusion encoder.

Alone, they want a higher learning rate than beside ITM, and are done in a third of the steps.
"""

from experiments.experiment import Arm, Experiment
from experiments.flickr8k import RECALLS, prepare, training

ALONE = {"objective.itm_weight": 0, "optim.lr": 2e-3, "train.steps": 400, "eval.rerank_k": 0}
CMA, IMC = {"objective.imc_weight": 0, "objective.lmi_weight": 0}, {"objective.lmi_weight": 0}

EXPERIMENT = Experiment(
    "Ablation on Flickr8k",
    arms={
        "cma": Arm("CMA", (training(ALONE | CMA),)),
        "imc": Arm("CMA + IMC", (training(ALONE | IMC),)),
        "all": Arm("CMA + IMC + LMI", (training(ALONE),)),
    },
    seeds=(0, 1, 2),
    columns=RECALLS,
    compared=tuple(RECALLS),
    against={"imc": "cma", "all": "imc"},
    prepare=prepare,
)
