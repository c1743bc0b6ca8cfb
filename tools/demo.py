"""`make demo`: generate scenes, train a vocabulary, pre-train with configs/pretrain/demo.yaml, show what was learned.

    python -m tools.demo

Everything goes to demo/. A demo that was interrupted goes on where it stopped; `make clean` starts afresh.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tcl.errors import InputError
from tools.make_demo_data import make_demo_data
from tools.plot_run import LOSSES, plot_run, read_metrics
from tools.train_tokenizer import train_tokenizer

CONFIG = Path("configs/pretrain/demo.yaml")
SCENES, HELD_OUT = 20000, 500


def main() -> None:
    """Run every stage; each is the command that a real run would use."""
    config = yaml.safe_load(CONFIG.read_text())
    run, tokenizer = Path(config["output_dir"]), Path(config["model"]["text"]["tokenizer"])
    started = time.perf_counter()
    make_demo_data(Path("demo/data"), train=SCENES, val=HELD_OUT, image_size=config["model"]["image"]["image_size"])
    if not tokenizer.exists():
        train_tokenizer(config["data"]["train"][0]["shards"], tokenizer, max_texts=20000)
    # Matrix products of this size gain little from a core that the loader also wants, and wait for it.
    threads = max(1, (os.cpu_count() or 1) - config["data"]["workers"])
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    subprocess.run([sys.executable, "pretrain.py", "--config", str(CONFIG)], check=True, env=environment)
    rows = read_metrics(run)
    print()
    print_table(rows)
    checkpoint = sorted((run / "checkpoints").iterdir())[-1]
    print(f"\ncurves      {plot_run(run)}\nmodel       {checkpoint}")
    print(f"time        {(time.perf_counter() - started) / 60:.1f} minutes")


def print_table(rows: list[dict]) -> None:
    """Recalls on the held-out scenes and every loss, at the start and at the end."""
    evaluations = [row for row in rows if "eval_i2t_r1" in row]
    steps = [row for row in rows if "loss" in row]
    print(f"{HELD_OUT} held-out scenes (chance R@1 {100 / HELD_OUT:.1f} %)   before    after")
    for direction, name in (("image to text", "i2t"), ("text to image", "t2i")):
        for kind, prefix in (("embeddings", "eval_"), ("re-ranked", "eval_rerank_")):
            for k in (1, 5, 10):
                before, after = (row[f"{prefix}{name}_r{k}"] for row in (evaluations[0], evaluations[-1]))
                print(f"  {direction}, {kind:10s} R@{k:<2d}         {before:6.1f} % {after:6.1f} %")
    print(f"loss (first and last {steps[0]['step']} steps)              start      end")
    for name in (*LOSSES, "loss"):
        print(f"  {'total' if name == 'loss' else name:34s} {steps[0][name]:8.3f} {steps[-1][name]:8.3f}")
    print(f"  {'ITM accuracy (prior 0.667)':34s} {steps[0]['itm_accuracy']:8.3f} {steps[-1]['itm_accuracy']:8.3f}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
