"""Squares of three colours, and the options of a tiny classifier that tells them apart within seconds."""

from pathlib import Path

from data_files import encode, write_tar
from PIL import Image

from tcl.config.model import ImageEncoderConfig, ModelConfig

COLOURS = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (40, 80, 220)}
NAMES = list(COLOURS)
OVERRIDES = {"embed_dim": 24, "depth": 2, "num_heads": 2}
SIZES = ModelConfig(image=ImageEncoderConfig("vit_tiny_patch16_224", image_size=32, overrides=OVERRIDES))


def square(i: int) -> Image.Image:
    """Of colour i % 3; every one is another picture."""
    image = Image.new("RGB", (32, 32), COLOURS[NAMES[i % 3]])
    image.putpixel((0, 0), (i, i, i))
    return image


def squares(path: Path, indices: range) -> None:
    """A shard; the labels are places in every other sample, names in the rest."""
    entries = []
    for i in indices:
        label = NAMES[i % 3] if i % 2 else str(i % 3)
        said = ("cls", label.encode()) if i % 4 < 2 else ("json", f'{{"label": "{label}"}}'.encode())
        entries += [(f"{i:03d}.png", encode(square(i), "PNG")), (f"{i:03d}.{said[0]}", said[1])]
    write_tar(path, entries)


def options(folder: Path) -> list[str]:
    """Of a run on train.tar, val.tar and classes.txt in `folder`."""
    return [
        "--task=classification",
        f"--classes.list={folder / 'classes.txt'}",
        f"--data.train=[{{'shards': '{folder / 'train.tar'}'}}]",
        f"--data.val={folder / 'val.tar'}",
        "--data.workers=0",
        *(
            f"--data.augment.{name}=0"
            for name in ("flip_prob", "color_jitter_prob", "grayscale_prob", "blur_prob", "randaugment_ops")
        ),
        f"--model.image.name={SIZES.image.name}",
        "--model.image.image_size=32",
        f"--model.image.overrides={{embed_dim: {OVERRIDES['embed_dim']}, depth: 2, num_heads: 2}}",
        "--optim.lr=0.003",
        "--optim.warmup_lr=0.003",
        "--optim.warmup_steps=0",
        "--train.batch_size=12",
        "--train.precision=fp32",
        "--train.log_every=1",
    ]
