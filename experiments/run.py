"""Run the arms of an experiment, seed by seed, some at a time; what was stopped goes on where it was."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from string import Template

import yaml

from experiments.experiment import Experiment, Stage
from experiments.results import Outcome, config_of, definition_of
from tcl.errors import InputError
from tcl.runs.metrics_file import read_metrics

DONE = "done.json"
"""In a stage's folder: its command, what stood in its configuration file, and the processor minutes that it took."""


@dataclass(frozen=True)
class Place:
    """Where an experiment runs."""

    data: Path
    """Prepared data of all experiments."""
    runs: Path
    """RUNS/ARM/SEED/STAGE."""
    at_once: int
    """Trainings at a time; they share the cores."""

    @property
    def threads(self) -> int:
        """Of each training."""
        return max(1, (os.cpu_count() or 1) // self.at_once)


def run_all(
    experiment: Experiment, arms: list[str], seeds: list[int], place: Place, found: Callable[[str, int, Outcome], None]
) -> list[str]:
    """Train what is not trained yet, and give each outcome to `found` as soon as it is there. Returns what failed, a
    line each. All arms of a seed come before the next seed, so that what was stopped early can be compared, too."""
    failed = []
    with ThreadPoolExecutor(place.at_once) as pool:
        jobs = {pool.submit(_run, experiment, arm, seed, place): (arm, seed) for seed in seeds for arm in arms}
        for job in as_completed(jobs):
            try:
                found(*jobs[job], job.result())
            except InputError as error:
                failed.append(str(error))
    return failed


def _run(experiment: Experiment, arm: str, seed: int, place: Place) -> Outcome:
    folder = place.runs / arm / str(seed)
    figures: dict[str, float] = {}
    curve: list[dict[str, float]] = []
    pairs, cpu_minutes = 0, 0.0
    for stage in experiment.arms[arm].stages:
        cpu_minutes += _run_stage(stage, folder / stage.name, seed, place)
        rows, batch = read_metrics(folder / stage.name / "metrics.jsonl").rows, _batch_of(folder / stage.name)
        for row in [*rows, _evaluated_alone(folder / stage.name)]:
            evaluated = {name.removeprefix("eval_"): row[name] for name in row if name.startswith("eval_")}
            if evaluated:
                figures |= evaluated
                kept = {name: evaluated[name] for name in experiment.columns if name in evaluated}
                curve.append({"pairs": pairs + row.get("step", 0) * batch, **kept})
        pairs += max((row.get("step", 0) for row in rows), default=0) * batch
    if not any(name in figures for name in experiment.columns):
        raise InputError(f"{folder}: none of its stages left a figure of {', '.join(experiment.columns)}")
    definition = definition_of(experiment.arms[arm])
    return Outcome(figures, curve, pairs, round(cpu_minutes, 1), definition)


def _run_stage(stage: Stage, folder: Path, seed: int, place: Place) -> float:
    """Processor minutes that the stage took, now and before.

    InputError: it failed, or the folder holds what another one made."""
    arguments = [*stage.script]
    places = {"data": place.data, "runs": place.runs, "seed": seed, "here": folder.parent}
    for name, value in stage.options.items():
        said = value if isinstance(value, str) else json.dumps(value)
        arguments += [f"--{name}", Template(said).substitute(places)]
    arguments += ["--output_dir", str(folder), "--seed", str(seed)]  # last: a configuration file may name others
    done, spent = folder / DONE, 0.0
    command = {"script": list(stage.script), "options": dict(stage.options), "config": config_of(stage)}
    if done.exists():
        record = json.loads(done.read_text())
        if any(record[name] != value for name, value in command.items()):
            raise InputError(f"{folder}: was made by other options than the experiment has now; move it away")
        if record["finished"]:
            return record["cpu_minutes"]
        spent = record["cpu_minutes"]
    folder.mkdir(parents=True, exist_ok=True)

    def note(finished: bool) -> float:
        done.write_text(json.dumps({**command, "finished": finished, "cpu_minutes": spent}))
        return spent

    note(False)
    threads = {"OMP_NUM_THREADS": str(place.threads)}
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log, env={**os.environ, **threads})
    status, cpu_seconds = _wait(process)
    spent += cpu_seconds / 60
    note(False)
    if status != 0:
        last = (folder / "log.txt").read_text().strip().splitlines()[-1:]
        raise InputError(f"{folder}: ended with status {status}: {''.join(last)}; all of it is in log.txt there")
    return note(True)


def _wait(process: subprocess.Popen) -> tuple[int, float]:
    """Its exit status, and the processor seconds of it and its children, which do not grow where others want the cores.

    What a terminal interrupts, both get: this waits until the training has saved."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, used.ru_utime + used.ru_stime


def _evaluated_alone(folder: Path) -> dict[str, float]:
    """What `tcl evaluate` found, by the names that a run gives it; nothing of a run, whose metrics.jsonl has it."""
    found = folder / "results" / "metrics.json"
    if (folder / "metrics.jsonl").exists() or not found.exists():
        return {}
    return {f"eval_{name}": value for name, value in json.loads(found.read_text()).items()}


def _batch_of(run: Path) -> int:
    """Pairs of an optimiser step; 0 of what trains nothing."""
    path = run / "config.yaml"
    train = yaml.safe_load(path.read_text())["train"] if path.exists() else None
    return train["batch_size"] * train["accumulate_steps"] if train else 0
