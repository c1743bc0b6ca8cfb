"""Run an experiment: `python -m experiments NAME [--seeds 0,1] [--arms cma,all] [--data FOLDER] [--at_once 2]`.

Without NAME it lists them. Trainings that were stopped go on where they were; what is found is left in
experiments/results/NAME.json, from which `python -m experiments.report --write` makes docs/results.md.
"""

import argparse
from pathlib import Path

import experiments
from benchmarks.measure import machine
from experiments.experiment import Experiment
from experiments.results import Outcome, read_outcomes, result_path, write_outcomes
from experiments.run import Place, run_all
from tcl.commands.one_line import end_with_one_line
from tcl.declared import declared, names_declared
from tcl.errors import InputError


def main(arguments: list[str]) -> None:
    """InputError: an unknown name, seed or arm, data that are not there, or a training that failed."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="of the experiment")
    parser.add_argument("--seeds", help="which of its seeds, separated by commas (default: all)")
    parser.add_argument("--arms", help="which of its arms, separated by commas (default: all)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where flickr8k/, daquar/ and models/ lie")
    parser.add_argument("--runs", type=Path, default=Path("runs/experiments"), help="where the trainings go")
    parser.add_argument("--at_once", type=int, default=2, help="trainings at a time, which share the cores")
    given = parser.parse_args(arguments)
    if given.name is None:
        for name in names_declared(experiments, "EXPERIMENT"):
            found = experiment_named(name)
            print(f"{name:20s} {found.title} ({len(found.arms)} arms, {len(found.seeds)} seeds)")
        return
    experiment = experiment_named(given.name)
    seeds = [int(seed) for seed in _chosen("seeds", given.seeds, [str(seed) for seed in experiment.seeds])]
    arms = _chosen("arms", given.arms, list(experiment.arms))
    if given.at_once < 1:
        raise InputError(f"--at_once: {given.at_once} is not possible; accepted: at least 1")
    prepared = given.runs / "data"
    experiment.prepare(given.data, prepared)
    place = Place(prepared, given.runs / given.name, given.at_once)
    path = result_path(given.name)
    outcomes = read_outcomes(path, experiment)

    def keep(arm: str, seed: int, outcome: Outcome) -> None:
        outcomes[arm][seed] = outcome
        write_outcomes(path, experiment, outcomes, machine())
        told = {name: outcome.figures[name] for name in experiment.columns if name in outcome.figures}
        figures = ", ".join(f"{name} {value:.1f}" for name, value in told.items())
        print(f"{arm}, seed {seed}: {figures}; {outcome.cpu_minutes:.0f} processor minutes", flush=True)

    failed = run_all(experiment, arms, seeds, place, keep)
    if failed:
        raise InputError("; ".join(failed))


def experiment_named(name: str) -> Experiment:
    """InputError: there is none of that name."""
    found = declared(experiments, "EXPERIMENT", name)
    if found is None:
        known = ", ".join(names_declared(experiments, "EXPERIMENT"))
        raise InputError(f"name: there is no experiment {name!r}; accepted: {known}")
    return found


def _chosen(option: str, said: str | None, known: list[str]) -> list[str]:
    chosen = known if said is None else said.split(",")
    unknown = [one for one in chosen if one not in known]
    if unknown:
        raise InputError(f"--{option}: {unknown[0]!r} is none of this experiment's; accepted: {', '.join(known)}")
    return chosen


if __name__ == "__main__":
    end_with_one_line(main)
