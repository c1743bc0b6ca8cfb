"""The JSON that an experiment leaves: what every seed of every arm came to, and by which commands."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from experiments.experiment import Arm, Experiment, Stage

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Outcome:
    """Of one seed of one arm."""

    figures: dict[str, float]
    """The columns of the experiment, and what else was evaluated last."""
    curve: list[dict[str, float]]
    """Every evaluation: `pairs` seen by then over all stages, and the columns."""
    pairs: int
    """Seen in training, over all stages."""
    cpu_minutes: float
    """Of the commands, evaluations included: processor time, all threads together."""
    definition: str
    """A digest of the arm's commands: an outcome of other ones is not this arm's any more."""


def definition_of(arm: Arm) -> str:
    """Changes with the commands of `arm`, and with the configuration files that they read."""
    said = json.dumps([[asdict(stage), config_of(stage)] for stage in arm.stages], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def config_of(stage: Stage) -> dict | None:
    """What the configuration file says that `stage` names, but for its output_dir, which is not used; no comments."""
    path = stage.options.get("config")
    said = yaml.safe_load(Path(path).read_text()) if isinstance(path, str) else None
    return said and {name: value for name, value in said.items() if name != "output_dir"}


def result_path(name: str) -> Path:
    """Of the experiment `name`."""
    return FOLDER / f"{name}.json"


def read_outcomes(path: Path, experiment: Experiment) -> dict[str, dict[int, Outcome]]:
    """By arm and seed, of every arm: what was made by the commands that it has now. No file: nothing."""
    stored = json.loads(path.read_text())["arms"] if path.exists() else {}
    outcomes = {}
    for name, arm in experiment.arms.items():
        definition = definition_of(arm)
        found = {int(seed): Outcome(**outcome) for seed, outcome in stored.get(name, {}).items()}
        outcomes[name] = {seed: outcome for seed, outcome in found.items() if outcome.definition == definition}
    return outcomes


def write_outcomes(
    path: Path, experiment: Experiment, outcomes: dict[str, dict[int, Outcome]], machine: dict[str, object]
) -> None:
    """Of every arm, in the order of the seeds."""
    arms = {arm: {str(seed): asdict(found) for seed, found in sorted(seeds.items())} for arm, seeds in outcomes.items()}
    content = {"title": experiment.title, "machine": machine, "arms": arms}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)
