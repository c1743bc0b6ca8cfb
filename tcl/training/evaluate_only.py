"""`--eval_only`: the evaluation of a task's initial weights, with nothing trained. And what every evaluation leaves."""

import json
from pathlib import Path

import torch
from accelerate import Accelerator

from tcl.errors import InputError
from tcl.runs.launcher import watch_launcher
from tcl.runs.together import raise_together
from tcl.shown import say
from tcl.tasks.task import BuildTask, Evaluation, RunConfig
from tcl.training.accelerator import build_accelerator
from tcl.training.run_name import named_run


def evaluate_only(config: RunConfig, build_task: BuildTask) -> None:
    """Print what is found, and leave it in <output_dir>/results, as `save_evaluation` does. A run may be training.

    InputError: no init, no data.val, and whatever `build_task` refuses.
    """
    if config.init is None:
        raise InputError("init: none, but there is nothing else to evaluate; give --init a run or a checkpoint")
    if config.data.val is None:
        raise InputError("data.val: none, but there is nothing else to evaluate on; give shards")
    watch_launcher()
    config.data.train = []  # nothing is trained: what was to be trained on may be gone, or of another image tower
    accelerator = build_accelerator(config)
    with named_run(accelerator, config, None) as config:
        torch.manual_seed(config.seed)
        task = build_task(config, accelerator)
        found = task.evaluate(accelerator, task.student.to(accelerator.device))
        if accelerator.is_main_process:
            for line in (*task.notices, found.line):
                say(line)
        save_evaluation(accelerator, found, Path(config.output_dir))


def save_evaluation(accelerator: Accelerator, found: Evaluation, output_dir: Path) -> None:
    """metrics.json and a task's own files in <output_dir>/results. Called on every process; the main one writes.

    InputError on all of them: they cannot be written.
    """
    problem = None
    if accelerator.is_main_process:
        folder = output_dir / "results"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "metrics.json").write_text(json.dumps(found.metrics, indent=1) + "\n")
            found.write(folder)
        except OSError as error:
            problem = f"output_dir: {folder} cannot be written ({error.strerror}); name another folder"
        except InputError as error:
            problem = str(error)
    raise_together(problem)
