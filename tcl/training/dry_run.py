"""`pretrain.py --dry_run`: what a run would be and whether its data can be read, without a step of it."""

import time
from dataclasses import replace

import torch

from tcl.config import PretrainConfig
from tcl.data.loader import train_loader
from tcl.data.text import load_tokenizer
from tcl.models.encoders import build_encoders
from tcl.models.momentum import Momentum
from tcl.models.tcl import TCL
from tcl.training.accelerator import build_accelerator
from tcl.training.world import describe_world


def dry_run(config: PretrainConfig) -> None:
    """Print the world of the run and, on its main process, check the first batch of every source.

    InputError: whatever would have stopped the run so far.
    """
    accelerator = build_accelerator(config)
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    torch.manual_seed(config.seed)
    encoders = build_encoders(config.model, len(tokenizer), tokenizer.pad_token_id)
    student = TCL(encoders, config.objective)
    teacher = Momentum(encoders, config.objective, config.model.lmi_regions, config.seed)
    if not accelerator.is_main_process:
        return
    for line in describe_world(config, accelerator, student, teacher, bf16=accelerator.mixed_precision == "bf16"):
        print(line)
    for source in config.data.train:
        started = time.perf_counter()
        loader = train_loader(
            replace(config.data, train=[replace(source, weight=None)], workers=0),
            tokenizer=tokenizer,
            image_size=config.model.image.image_size,
            mean=encoders.image_encoder.mean,
            std=encoders.image_encoder.std,
            batch_size=config.train.batch_size,
            mlm_probability=config.objective.mlm_probability,
            seed=config.seed,
            rank=0,
            world_size=1,
        )
        batch = next(loader)
        tokens = batch.attention_mask.sum(dim=1).float().mean()
        bad = ", ".join(f"{count} {cause}" for cause, count in loader.bad.total.items()) or "none"
        print(
            f"source {source.shards}: {loader.samples:,} samples; first batch: images {tuple(batch.image.shape)}, "
            f"{tokens:.1f} tokens a text, first key {batch.keys[0]}, not usable: {bad}; "
            f"{time.perf_counter() - started:.1f} s"
        )
