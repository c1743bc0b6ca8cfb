"""The paper's table of losses, what else the recipe has, and two more losses, on the drawn scenes of `make demo`."""

from collections.abc import Mapping

from experiments.experiment import Arm, Experiment, Stage
from experiments.prepare_data import prepare_scenes

EMBEDDINGS = {"i2t_r1": "image to text", "t2i_r1": "text to image"}
RERANKED = {"rerank_i2t_r1": "image to text, re-ranked", "rerank_t2i_r1": "text to image, re-ranked"}


def pretraining(title: str, model: Mapping[str, object] | None = None, **objective: float) -> Arm:
    """The demo's pre-training with other values of some fields of `model` and `objective`."""
    options = {
        "config": "configs/pretrain/demo.yaml",
        "data.train": "[{shards: '$data/scenes/train/*.tar'}]",
        "data.val": "$data/scenes/val/*.tar",
        "data.workers": 0,
        "model.text.tokenizer": "$data/words_of_scenes",
        "objective.mlm_probability": 0.15,  # as published; the demo hides more, for its questions
        "train.steps": 800,
        "eval.every": 800,
        "eval.rerank_k": 0 if objective.get("itm_weight") == 0 else 16,
        **{f"model.{name}": value for name, value in (model or {}).items()},
        **{f"objective.{name}": value for name, value in objective.items()},
    }
    return Arm(title, (Stage("pretrain", ("pretrain.py",), options),))


CMA, IMC = {"imc_weight": 0, "lmi_weight": 0}, {"lmi_weight": 0}

EXPERIMENT = Experiment(
    "Ablation on drawn scenes",
    arms={
        "cma": pretraining("CMA, ITM, MLM", **CMA),
        "imc": pretraining("CMA + IMC, ITM, MLM", **IMC),
        "all": pretraining("CMA + IMC + LMI, ITM, MLM"),
        "cma_itm": pretraining("CMA, ITM", **CMA, mlm_weight=0),
        "imc_itm": pretraining("CMA + IMC, ITM", **IMC, mlm_weight=0),
        "all_itm": pretraining("CMA + IMC + LMI, ITM", mlm_weight=0),
        "cma_mlm": pretraining("CMA, MLM", **CMA, itm_weight=0),
        "imc_mlm": pretraining("CMA + IMC, MLM", **IMC, itm_weight=0),
        "all_mlm": pretraining("CMA + IMC + LMI, MLM", itm_weight=0),
        "no_teacher": pretraining("all, the teacher a copy of the student (momentum 0)", momentum=0),
        "queue_1": pretraining("all, a queue of 1", queue_size=1),
        "queue_1024": pretraining("all, a queue of 1,024", queue_size=1024),
        "queue_1024_slow": pretraining("all, a queue of 1,024 and a slower teacher", queue_size=1024, momentum=0.995),
        "hard_targets": pretraining("all, without soft targets (alpha 0)", alpha=0),
        "light_lmi": pretraining("all, LMI weighted 0.2", lmi_weight=0.2),
        "one_region": pretraining("all, LMI of the image as one region", {"lmi_regions": 1}),
        "dsl": pretraining("all, and dual softmax", dsl_weight=1),
        "circle": pretraining("all, and circle loss", circle_weight=0.05),
        "soft_at_once": pretraining("all, alpha ramped in one epoch, as published", alpha_ramp_epochs=1),
    },
    seeds=(0, 1, 2, 3, 4),
    columns=EMBEDDINGS | RERANKED,
    compared=tuple(EMBEDDINGS | RERANKED),
    against={
        "imc": "cma",
        "all": "imc",
        **{f"{losses}_{left}": losses for left in ("itm", "mlm") for losses in ("cma", "imc", "all")},
        **dict.fromkeys(["no_teacher", "queue_1", "queue_1024", "queue_1024_slow"], "all"),
        **dict.fromkeys(["hard_targets", "soft_at_once", "light_lmi", "one_region", "dsl", "circle"], "all"),
    },
    prepare=prepare_scenes,
)
