"""`make demo`: generate scenes, train a vocabulary, pre-train, fine-tune on questions, show what was learned, and index
scenes to be searched.

The configurations are configs/pretrain/demo.yaml and configs/finetune/demo_vqa.yaml.

    python -m tools.demo

Everything goes to demo/. A demo that was interrupted goes on where it stopped; `make clean` starts afresh.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tcl.data.sets.question_set import load_question_set
from tcl.data.texts.vocabulary import train_tokenizer
from tcl.errors import InputError
from tcl.evaluation.vqa_baseline import AnnotatedQuestion, commonest_answer_baseline
from tcl.runs.curves import plot_runs, read_rows
from tcl.runs.panels import loss_names
from tcl.shown import shown
from tools.demo_pictures import draw_pictures
from tools.make_demo_data import make_demo_data

PRETRAIN, FINETUNE = Path("configs/pretrain/demo.yaml"), Path("configs/finetune/demo_vqa.yaml")
SCENES, HELD_OUT, QUESTIONS = 20000, 500, 80000
PICTURES = 2000
"""Held-out scenes, drawn large, that are indexed."""
TEXTS = 40000
"""The vocabulary is learned from: half of them questions and answers, half captions."""


def main() -> None:
    """Run every stage; each is the command that a real run would use."""
    config, questions = (yaml.safe_load(path.read_text()) for path in (PRETRAIN, FINETUNE))
    run, tokenizer = Path(config["output_dir"]), Path(config["model"]["text"]["tokenizer"])
    started = time.perf_counter()
    size = config["model"]["image"]["image_size"]
    make_demo_data(Path("demo/data"), train=SCENES, val=HELD_OUT, vqa_train=QUESTIONS, image_size=size)
    if not tokenizer.exists():
        print(train_tokenizer("demo/data/{vqa_train,train}/*.tar", tokenizer, max_texts=TEXTS))
    # Matrix products of this size gain little from a core that the loader also wants, and wait for it.
    threads = max(1, (os.cpu_count() or 1) - config["data"]["workers"])
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    for command, path in (("pretrain.py", PRETRAIN), ("finetune.py", FINETUNE)):
        subprocess.run([sys.executable, command, "--config", str(path)], check=True, env=environment)
    print()
    rows, _ = read_rows(run)
    print_table(rows)
    print_answers(read_rows(Path(questions["output_dir"]))[0], questions["data"])
    pictures, index = Path("demo/scenes"), Path("demo/index")
    draw_pictures(pictures, PICTURES)
    searched = ["--images", str(pictures), "--out", str(index)]
    subprocess.run([sys.executable, "-m", "tcl", "index", str(run), *searched], check=True, env=environment)
    checkpoint = sorted((run / "checkpoints").iterdir())[-1]
    curves = plot_runs({run.name: rows}, run / "curves.png")
    print(f"\ncurves      {curves}\ngallery     {run / 'results' / 'gallery.html'}\nmodel       {checkpoint}")
    print(f"time        {(time.perf_counter() - started) / 60:.1f} minutes")
    print(f"\nSearch {PICTURES:,} scenes that it has never seen: {Path(sys.executable).parent / 'tcl'} serve {index}")


def print_answers(rows: list[dict], data: dict) -> None:
    """Accuracy on questions about the held-out scenes, by type, beside the commonest answer of each type."""
    found = [row for row in rows if "eval_accuracy" in row][-1]
    train, val = (
        [
            AnnotatedQuestion(asked.question, list(asked.answers), asked.question_type)
            for asked in load_question_set(pattern, max_words=50, max_pixels=10**6).questions
        ]
        for pattern in (data["train"][0]["shards"], data["val"])
    )
    baseline = commonest_answer_baseline(train, val)["exact_match"]
    print(f"{len(val)} questions about held-out scenes, answers written by the model")
    print(f"  {'always the commonest answer':34s} {baseline:8.1f} %")
    print(f"  {'fine-tuned':34s} {found['eval_accuracy']:8.1f} %")
    for name, value in sorted(found.items()):
        if name.startswith("eval_accuracy/question_type/"):
            print(f"    {name.rpartition('/')[2]:32s} {value:8.1f} %")


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
    for name in (*loss_names(rows), "loss"):
        print(f"  {'total' if name == 'loss' else name:34s} {steps[0][name]:8.3f} {steps[-1][name]:8.3f}")
    print(f"  {'ITM accuracy (prior 0.667)':34s} {steps[0]['itm_accuracy']:8.3f} {steps[-1]['itm_accuracy']:8.3f}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {shown(str(error))}", file=sys.stderr)
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
