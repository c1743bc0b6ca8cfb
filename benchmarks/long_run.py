"""Whether a run keeps its speed and its memory: a tiny model through tcl.training.run for thousands of steps.

    python -m benchmarks.long_run [--steps 5000 --window 500]

Shards of 2,000 generated images, one loader process, both views augmented as by default. Speed is that of metrics.jsonl
(evaluation and saving left out), memory what this process and its loaders have in RAM after each window (Linux).
"""

import json
import multiprocessing
import statistics
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jsonargparse
from accelerate import Accelerator
from torch import nn

from benchmarks.loader import TOKENIZER
from benchmarks.measure import resident_mib, save
from benchmarks.photographs import photographs, write_shards
from tcl.config.data import DataConfig, SourceConfig
from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.config.retrieval_eval import EvalConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.config.train import TrainConfig
from tcl.tasks.pretrain import Config as PretrainConfig
from tcl.tasks.pretrain import build as build_pretraining
from tcl.tasks.task import Evaluation, Task
from tcl.training.run import train

BATCH = 8
ROWS = 5
"""Rows of metrics.jsonl in a window; the first of a run is left out: it has the start of the loader in it."""
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MODEL = ModelConfig(
    image=ImageEncoderConfig(image_size=32, overrides={"embed_dim": 32, "depth": 2, "num_heads": 2}),
    text=TextEncoderConfig(overrides=BERT),
    embed_dim=32,
    lmi_regions=2,
)


@dataclass
class Window:
    """Some steps of a run."""

    last_step: int
    steps_per_second: float
    process_mib: float
    """After last_step."""
    loaders_mib: float


def run(folder: Path, steps: int, window: int) -> list[Window]:
    """Train for `steps`, a multiple of `window`, which is one of ROWS. `folder` gets the shards and the run."""
    (folder / "shards").mkdir()
    images = photographs(None, count=50, size=(64, 64))
    write_shards(folder / "shards", images, samples=2000, shards=20)
    TOKENIZER.save_pretrained(folder / "tokenizer")
    config = PretrainConfig(
        output_dir=str(folder / "run"),
        model=replace(MODEL, text=replace(MODEL.text, tokenizer=str(folder / "tokenizer"))),
        objective=ObjectiveConfig(queue_size=4096),
        data=DataConfig(train=[SourceConfig(str(folder / "shards" / "*.tar"))], workers=1),
        train=TrainConfig(batch_size=BATCH, steps=steps, precision="fp32", log_every=window // ROWS),
        eval=EvalConfig(every=window),
    )
    train(config, _build)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return windows_of([json.loads(line) for line in lines], steps, window)


def _build(config: PretrainConfig, accelerator: Accelerator) -> Task:
    """Pre-training that is judged by its memory, so that every evaluation leaves a row of it."""
    return replace(build_pretraining(config, accelerator), evaluate=_read_memory)


def _read_memory(accelerator: Accelerator, student: nn.Module) -> Evaluation:
    loaders = sum(resident_mib(process.pid) for process in multiprocessing.active_children())
    metrics = {"process_mib": resident_mib(), "loaders_mib": loaders}
    return Evaluation(metrics, score=None, line=f"{metrics['process_mib']:.0f} MiB", write=lambda folder: None)


def windows_of(rows: list[dict[str, float]], steps: int, window: int) -> list[Window]:
    """Of the rows of metrics.jsonl."""
    log_every = window // ROWS
    seconds = {
        row["step"]: log_every * BATCH / row["samples_per_second"] for row in rows if "samples_per_second" in row
    }
    memory = {row["step"]: row for row in rows if "eval_process_mib" in row}
    found = []
    for last in range(window, steps + 1, window):
        logged = [step for step in range(last - window + log_every, last + 1, log_every) if step != log_every]
        speed = len(logged) * log_every / sum(seconds[step] for step in logged)
        found.append(Window(last, speed, memory[last]["eval_process_mib"], memory[last]["eval_loaders_mib"]))
    return found


def kept_speed(windows: list[Window]) -> float:
    """Median steps per second of the last three windows over that of the first three: 1 is no slow-down."""
    speeds = [window.steps_per_second for window in windows]
    return statistics.median(speeds[-3:]) / statistics.median(speeds[:3])


def main(steps: int = 5000, window: int = 500) -> None:
    """steps: of the run, a multiple of window. window: steps between readings, a multiple of 5."""
    with tempfile.TemporaryDirectory() as folder:
        windows = run(Path(folder), steps, window)
    kept = kept_speed(windows)
    grown = windows[-1].process_mib - windows[0].process_mib
    loaders_grown = windows[-1].loaders_mib - windows[0].loaders_mib
    print("to step  steps/s  MiB in this process  in its loader")
    for one in windows:
        print(f"{one.last_step:7,} {one.steps_per_second:8.1f} {one.process_mib:20.1f} {one.loaders_mib:14.1f}")
    print(
        f"speed of the last three over the first three windows: {kept:.3f}; from the first reading to the last, memory"
    )
    print(f"grew by {grown:.1f} MiB in this process and by {loaders_grown:.1f} MiB in its loader")
    result = {"kept_speed": kept, "grown_mib": grown, "loaders_grown_mib": loaders_grown}
    options = {"steps": steps, "window": window, "batch": BATCH}
    print(save("long_run", {"options": options, **result, "windows": [asdict(one) for one in windows]}))


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
