"""Run by test_experiments.py in place of a training: what a run leaves, from the options.

--worth W: the last evaluation is W + seed. --start FOLDER: the stage before. --fails FILE: end badly once, after half.
--evaluates N: as `tcl evaluate` does; what is good is N + seed.
--config FILE: replaces the options before it, as in pretrain.py.
"""

import argparse
import json
import sys
from pathlib import Path

import yaml

PATHS, NUMBERS = ("output_dir", "start", "fails"), ("seed", "worth", "evaluates")


class Config(argparse.Action):
    """The options of a file, where it stands among the others."""

    def __call__(self, parser, given, path, option=None):
        for name, value in yaml.safe_load(Path(path).read_text()).items():
            setattr(given, name, Path(value) if name in PATHS else value)


parser = argparse.ArgumentParser()
for name in PATHS:
    parser.add_argument(f"--{name}", type=Path)
for name in NUMBERS:
    parser.add_argument(f"--{name}", type=int)
parser.add_argument("--config", action=Config)
given = parser.parse_args()

if given.evaluates is not None:
    (given.output_dir / "results").mkdir()
    (given.output_dir / "results" / "metrics.json").write_text(json.dumps({"good": given.evaluates + given.seed}))
    sys.exit()
metrics = given.output_dir / "metrics.jsonl"
(given.output_dir / "config.yaml").write_text("train: {batch_size: 8, accumulate_steps: 2}")
worth = given.worth + given.seed
if given.start:
    worth += json.loads((given.start / "metrics.jsonl").read_text().splitlines()[-1])["eval_good"]
if not metrics.exists():
    metrics.write_text(json.dumps({"step": 5, "eval_good": 0, "eval_other": 7}) + "\n")
if given.fails and not given.fails.exists():
    given.fails.touch()
    sys.exit("the disk is full")
with metrics.open("a") as rows:
    rows.write(json.dumps({"step": 10, "loss": 1.0}) + "\n")
    rows.write(json.dumps({"step": 10, "eval_good": worth}) + "\n")
