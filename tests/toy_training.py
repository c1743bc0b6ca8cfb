"""Run by test_experiments.py in place of a training: what a run leaves, from the options.

--worth W: the last evaluation is W + seed. --start FOLDER: the stage before. --fails FILE: end badly once, after half.
"""

import argparse
import json
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("output_dir", "start", "fails", "config"):
    parser.add_argument(f"--{name}", type=Path)
for name in ("seed", "worth"):
    parser.add_argument(f"--{name}", type=int)
given = parser.parse_args()

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
