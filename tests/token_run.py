"""A small run on images that differ, and the shards of stored tokens that stand in their place."""

from pathlib import Path

import yaml
from data_files import encode, noise, write_tar

from tcl.commands.main import run
from tcl.data.texts.vocabulary import train_tokenizer

SIZES = (6, 5)
WORDS = "red green blue dog cat mat photo thing"
AUGMENT = {"crop_scale": [0.5, 1.0], "randaugment_ops": 1, "flip_prob": 0.5}
VIEWS = 3


def write_pixels(folder: Path, image_ids: bool = False) -> str:
    """Shards of noise with captions; returns their glob. image_ids: two samples each show the same image."""
    folder.mkdir(parents=True, exist_ok=True)
    words = WORDS.split()
    for shard, size in enumerate(SIZES):
        entries = []
        for i in range(size):
            content = encode(noise(10 * shard + i, (48, 40)), "PNG")
            captions = f"a {words[(shard + i) % 8]} on {words[(3 * i) % 8]}\na {words[i]} thing"
            entries += [(f"s{shard}_{i}.png", content), (f"s{shard}_{i}.txt", captions.encode())]
            if image_ids:
                entries.append((f"s{shard}_{i}.json", f'{{"image_id": {i // 2}}}'.encode()))
        write_tar(folder / f"{shard:06d}.tar", entries)
    return str(folder / "*.tar")


def options(folder: Path, pixels: str, image: dict | None = None) -> dict:
    """A run's, as plain values. image: of model.image, instead of a tiny ViT."""
    tokenizer = folder / "tokenizer"
    if not tokenizer.exists():
        train_tokenizer(pixels, tokenizer, vocab_size=100)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    vit = {"image_size": 32, "overrides": {"embed_dim": 16, "depth": 1, "num_heads": 2}}
    return {
        "model": {
            "embed_dim": 8,
            "lmi_regions": 2,
            "image": {"frozen": True} | (image or vit),
            "text": {"tokenizer": str(tokenizer), "overrides": sizes},
        },
        "data": {
            "train": [{"shards": pixels}],
            "workers": 0,
            "shuffle_buffer": 4,
            "augment": AUGMENT | {"views": VIEWS},
        },
        "objective": {"queue_size": 20},
        "optim": {"warmup_steps": 3},
        "train": {"batch_size": 4, "steps": 6, "precision": "fp32", "log_every": 1},
    }


def write_options(path: Path, said: dict) -> Path:
    path.write_text(yaml.safe_dump(said))
    return path


def write_tokens(config: Path, pixels: str, out: Path, *more: str) -> str:
    """By the command; returns the glob of the shards."""
    run(["shards", "--tokens", str(config), "--shards", pixels, "--out", str(out), "--workers", "0", *more])
    return str(out / "*.tar")
