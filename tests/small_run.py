"""A run of seconds on 40 samples, for tests of what a run does beside its training."""

import json
from pathlib import Path

from data_files import write_shards

from tcl.commands.task_options import parse_pretrain
from tcl.data.texts.vocabulary import train_tokenizer
from tcl.tasks.pretrain import build as build_pretraining
from tcl.training import run

SAMPLES = 40


def small_run(folder: Path) -> list[str]:
    """Options of a run of two epochs in steps of 4 samples, less its output_dir; its shards lie in `folder`/train."""
    train = write_shards(folder / "train", [10, 10, 20])
    train_tokenizer(train, folder / "tokenizer", vocab_size=100)
    return [
        f"--data.train=[{{'shards': '{train}'}}]",
        "--data.workers=0",
        "--data.shuffle_buffer=8",
        "--model.embed_dim=8",
        "--model.lmi_regions=2",
        "--model.image.image_size=32",
        "--model.image.overrides={embed_dim: 16, depth: 1, num_heads: 2}",
        f"--model.text.tokenizer={folder / 'tokenizer'}",
        "--model.text.overrides={hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32}",
        "--objective.queue_size=20",
        "--optim.warmup_steps=3",
        "--train.batch_size=4",
        "--train.epochs=2",
        "--train.precision=fp32",
        "--train.log_every=1",
    ]


def train(options: list[str], output_dir: Path, *more: str) -> Path:
    return run.train(parse_pretrain([*options, f"--output_dir={output_dir}", *more]), build_pretraining)


def rows(output_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each file was changed last, and what is in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
