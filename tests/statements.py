"""Statements about coloured squares with a label that one image or two decide, and the options of a tiny model."""

import json
from pathlib import Path

from coloured_squares import OVERRIDES, square
from data_files import TOKENIZER, encode, write_tar


def entailed(i: int) -> tuple[str, str]:
    """Text and label of square i, whose colour is i % 3: the text says nothing of the label."""
    return ("a red thing", "a photo of red")[i % 2], ("entailment", "contradiction", "neutral")[i % 3]


def entailment_shard(path: Path, indices: range) -> Path:
    entries = []
    for i in indices:
        text, label = entailed(i)
        said = {"hypothesis": text, "label": label, "premise": "never read"}
        entries += [(f"{i:03d}.png", encode(square(i), "PNG")), (f"{i:03d}.json", json.dumps(said).encode())]
    return write_tar(path, entries)


def told(i: int) -> tuple[int, str, str]:
    """The second square beside square i, text and label: it is true where the second square is red."""
    return i + 1, ("a red thing", "a photo of red")[i % 2], "True" if (i + 1) % 3 == 0 else "False"


def nlvr_shard(path: Path, indices: range) -> Path:
    """The images of a pair are of different sizes."""
    entries = []
    for i in indices:
        other, text, label = told(i)
        said = {"sentence": text, "label": label, "identifier": f"dev-{i // 4}-{i % 4}-0"}
        entries += [
            (f"{i:03d}.left.png", encode(square(i), "PNG")),
            (f"{i:03d}.right.png", encode(square(other).resize((48, 20)), "PNG")),
            (f"{i:03d}.json", json.dumps(said).encode()),
        ]
    return write_tar(path, entries)


SHARDS = {"entailment": entailment_shard, "nlvr": nlvr_shard}
SIZES = [
    f"--model.image.overrides={{embed_dim: {OVERRIDES['embed_dim']}, depth: 2, num_heads: 2}}",
    "--model.image.image_size=32",
    "--model.embed_dim=8",
    "--model.text.overrides={hidden_size: 16, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 32, "
    "hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0, initializer_range: 0.1}",
]


def options(task: str, folder: Path) -> list[str]:
    """Of a run on train.tar and val.tar in `folder`, with a tokenizer there."""
    if not (folder / "tokenizer").exists():
        TOKENIZER.save_pretrained(folder / "tokenizer")
    return [
        f"--task={task}",
        f"--data.train=[{{'shards': '{folder / 'train.tar'}'}}]",
        f"--data.val={folder / 'val.tar'}",
        "--data.workers=0",
        *(
            f"--data.augment.{name}=0"
            for name in ("flip_prob", "color_jitter_prob", "grayscale_prob", "blur_prob", "randaugment_ops")
        ),
        "--data.augment.crop_scale=[1.0, 1.0]",
        *SIZES,
        f"--model.text.tokenizer={folder / 'tokenizer'}",
        "--optim.lr=0.003",
        "--optim.warmup_lr=0.003",
        "--optim.warmup_steps=0",
        "--train.batch_size=12",
        "--train.precision=fp32",
        "--train.log_every=1",
    ]
