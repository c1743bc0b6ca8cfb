"""How often a model of visual entailment is right when each hypothesis is shown with an image of another one.

    python -m experiments.shuffled_images --output_dir OUT --run RUN --val 'dev_shuffled/*.tar'

What is left of its accuracy, it has from the words alone. OUT/metrics.jsonl gets eval_accuracy_shuffled, in percent.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tcl.commands.one_line import end_with_one_line
from tcl.commands.task_options import parse_finetune
from tcl.training.evaluate_only import evaluate_only


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--run", required=True, help="a run, one of its checkpoints, or an export")
    parser.add_argument("--val", required=True, help="shards of hypotheses with other images")
    parser.add_argument("--seed", type=int, default=0, help="draws nothing")
    given = parser.parse_args(arguments)
    options = {"task": "entailment", "init": given.run, "data.val": given.val, "data.max_tokens": 40}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    evaluate_only(*parse_finetune([*arguments, f"--output_dir={given.output_dir}"], trains=False))
    accuracy = json.loads((given.output_dir / "results" / "metrics.json").read_text())["accuracy"]
    found = {"step": 0, "eval_accuracy_shuffled": accuracy}
    (given.output_dir / "metrics.jsonl").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    end_with_one_line(main)
