"""`--eval_only`: the evaluation of a task's initial weights, with nothing trained."""

import json
from pathlib import Path

import torch

from tcl.errors import InputError
from tcl.training.accelerator import build_accelerator
from tcl.training.task import BuildTask, RunConfig


def evaluate_only(config: RunConfig, build_task: BuildTask) -> None:
    """Print what is found, and leave it in <output_dir>/results, metrics.json and a file for each sample's result.

    InputError: no init, no data.val, and whatever `build_task` refuses.
    """
    if config.init is None:
        raise InputError("init: none, but there is nothing else to evaluate; give --init a run or a checkpoint")
    if config.data.val is None:
        raise InputError("data.val: none, but there is nothing else to evaluate on; give shards")
    accelerator = build_accelerator(config)
    torch.manual_seed(config.seed)
    task = build_task(config, accelerator)
    results = Path(config.output_dir) / "results"
    found = task.evaluate(accelerator, task.student.to(accelerator.device), results)
    if accelerator.is_main_process:
        for line in task.notices:
            print(line)
        print(found.line)
        (results / "metrics.json").write_text(json.dumps(found.metrics, indent=1) + "\n")
