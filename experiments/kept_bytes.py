"""What an image costs to keep for search, as an experiment: ordinary embeddings made small, and learned codes (HCQ)."""

from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.experiment import Arm, Experiment, Stage

COLUMNS = {
    "bytes": "bytes",
    "i2t_r1": "image to text R@1",
    "i2t_r5": "R@5",
    "i2t_r10": "R@10",
    "t2i_r1": "text to image R@1",
    "t2i_r5": "R@5 ",
    "t2i_r10": "R@10 ",
    "rerank_i2t_r1": "image to text R@1, ITM",
    "rerank_t2i_r1": "text to image R@1, ITM",
    "ms": "ms a query",
}
SIZES = (64, 32)
LEVELS = 8
"""Of codes: the coarse one and seven fine ones."""
AGAINST = {
    "soft_64": "fp32",
    "straight_64": "fp32",
    "tuned": "soft_64",
    "opq_64": "soft_64",
    "tuned_opq_64": "soft_64",
    "opq_32": "soft_32",
}


def search_experiment(
    title: str,
    model: str,
    val: str,
    fitted_to: str,
    similarity: float,
    tuning: Mapping[str, object],
    coding: Mapping[str, object],
    soft: Mapping[str, object],
    prepare: Callable[[Path, Path], None],
) -> Experiment:
    """model: a run. val, fitted_to: shards of held-out pairs, and of those to which PQ is fitted. similarity: weight of
    a cosine beside ITM; codes have one for each level, and are compared by their mean. tuning: options of `--task
    retrieval` for as many steps as `coding`, those of `--task compressed_retrieval`: what is trained longer is compared
    with what was trained as long. soft: options of the latter, beside them, where codewords are assigned softly."""

    def judged(run: str, storage: str, size: int = 64) -> Stage:
        cosines = LEVELS if storage == "codes" else 1
        options = {
            "run": run,
            "val": val,
            "train": fitted_to,
            "storage": storage,
            "bytes": size,
            "similarity": cosines * similarity,
        }
        return Stage("stored", ("-m", "experiments.stored_embeddings"), options)

    def kept(title: str, storage: str, size: int = 64) -> Arm:
        return Arm(title, (judged(model, storage, size),))

    def trained(title: str, task: str, options: Mapping[str, object], storage: str, size: int = 64) -> Arm:
        said = {"task": task, "init": model, "data.val": val, **options}
        return Arm(title, (Stage("train", ("finetune.py",), said), judged("$here/train", storage, size)))

    def coded(title: str, size: int, assigned: Mapping[str, object]) -> Arm:
        sizes = {"quantise.parts": size // LEVELS, "quantise.levels": LEVELS - 1}
        return trained(title, "compressed_retrieval", {**coding, **sizes, **assigned}, "codes")

    def elsewhere(title: str, arm: str, storage: str, size: int = 64) -> Arm:
        return Arm(title, (judged(f"$runs/{arm}/$seed/train", storage, size),))

    softly = {"quantise.assignment": "soft", **soft}
    arms = {
        **{name: kept(name, name) for name in ("fp32", "fp16", "int8")},
        **{f"pq_{size}": kept("PQ", "pq", size) for size in SIZES},
        **{f"opq_{size}": kept("OPQ", "opq", size) for size in SIZES},
        "tuned": trained("fp32, fine-tuned as long", "retrieval", tuning, "fp32"),
        "tuned_opq_64": elsewhere("OPQ of that", "tuned", "opq"),
        "soft_64": coded("HCQ soft", 64, softly),
        "soft_32": coded("HCQ soft", 32, softly),
        "straight_64": coded("HCQ straight-through", 64, {"quantise.assignment": "straight_through"}),
        "coarse": elsewhere("HCQ soft, the coarse level alone", "soft_64", "coarse"),
    }
    return Experiment(
        title,
        arms=arms,
        seeds=(0, 1, 2),
        columns=COLUMNS,
        compared=("i2t_r1", "t2i_r1", "rerank_i2t_r1", "rerank_t2i_r1"),
        against=AGAINST,
        prepare=prepare,
    )
