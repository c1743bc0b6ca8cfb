"""Few tokens for matching, as an experiment: compressions of a finished model, each judged from tokens on the disk."""

from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.experiment import Arm, Experiment, Stage

COLUMNS = {
    "fp16_bytes": "bytes, fp16",
    "fp16_i2t_r1": "image to text, fp16",
    "fp16_t2i_r1": "text to image, fp16",
    "int8_bytes": "bytes, int8",
    "int8_i2t_r1": "image to text, int8",
    "int8_t2i_r1": "text to image, int8",
}


def matching_experiment(
    title: str,
    model: str,
    tokens: tuple[int, ...],
    training: Mapping[str, object],
    similarity: float,
    prepare: Callable[[Path, Path], None],
) -> Experiment:
    """model: a run. tokens: of an image, one arm each beside all of them. training: options of `--task compress`, its
    data.val among them. similarity: eval.rerank_similarity."""

    def judged(run: str) -> Stage:
        options = {"run": run, "val": training["data.val"], "similarity": similarity}
        return Stage("stored", ("-m", "experiments.stored_matching"), options)

    def compressed(count: int) -> Arm:
        options = {"task": "compress", "init": model, **training, "model.fusion.image_tokens": count}
        stages = (Stage("compress", ("finetune.py",), options), judged("$here/compress"))
        return Arm(f"{count} tokens", stages)

    arms = {"all": Arm("all tokens", (judged(model),))} | {str(count): compressed(count) for count in tokens}
    return Experiment(
        title,
        arms=arms,
        seeds=(0, 1, 2),
        columns=COLUMNS,
        compared=("int8_i2t_r1", "int8_t2i_r1"),
        against={str(count): "all" for count in tokens},
        prepare=prepare,
    )
