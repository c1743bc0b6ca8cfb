"""The pre-training run: config in, checkpoints and metrics out."""

import time
from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, gather_object
from torch import nn

from tcl.config import PretrainConfig, TrainConfig, save_config
from tcl.data.augment import eval_transform
from tcl.data.loader import TrainLoader, train_loader
from tcl.data.retrieval_set import load_retrieval_set
from tcl.data.text import load_tokenizer, tokenize
from tcl.errors import InputError
from tcl.evaluation.zero_shot_retrieval import zero_shot_retrieval
from tcl.models.encoders import Encoders, build_encoders
from tcl.models.momentum import Momentum
from tcl.models.tcl import TCL
from tcl.training.checkpoint import Progress, checkpoint_to_resume, load_checkpoint, save_checkpoint
from tcl.training.monitor import Monitor
from tcl.training.optim import build_optimizer, learning_rate, soft_target_share
from tcl.training.precision import mixed_precision
from tcl.training.step import train_step

LOSS_NAMES = ("i2t", "t2i", "imc_image", "imc_text", "lmi_image", "lmi_text", "itm", "mlm", "grad_norm")


def pretrain(config: PretrainConfig) -> Path:
    """Run to the end, or on from the checkpoint that train.resume names; returns the last checkpoint's folder.

    Call it from one process, or from each of several that `accelerate launch` or torchrun started. InputError: bad
    data, names or checkpoints, or losses that stay non-finite.
    """
    output_dir = Path(config.output_dir)
    accelerator = _accelerator(config)
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    torch.manual_seed(config.seed)
    encoders = build_encoders(config.model, len(tokenizer), tokenizer.pad_token_id)
    student = TCL(encoders, config.objective)
    teacher = Momentum(encoders, config.objective, config.model.lmi_regions, config.seed).to(accelerator.device)
    _apply_memory_and_compile_options(encoders, config.train)
    engine, optimizer = accelerator.prepare(student, build_optimizer(student.to(accelerator.device), config.optim))

    checkpoints = output_dir / "checkpoints"
    resumed = checkpoint_to_resume(config.train.resume, checkpoints)
    progress = load_checkpoint(accelerator, resumed, student, teacher, optimizer) if resumed else None
    step = progress.step if progress else 0
    image = encoders.image_encoder
    loader = train_loader(
        config.data,
        tokenizer=tokenizer,
        image_size=config.model.image.image_size,
        mean=image.mean,
        std=image.std,
        batch_size=config.train.batch_size,
        mlm_probability=config.objective.mlm_probability,
        seed=config.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        start=progress.loader if progress else None,
        pin_memory=accelerator.device.type == "cuda",
    )
    samples_per_step = config.train.batch_size * config.train.accumulate_steps * accelerator.num_processes
    steps_per_epoch = max(loader.samples // samples_per_step, 1)
    total_steps = config.train.steps or config.train.epochs * steps_per_epoch

    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        save_config(config, output_dir / "config.yaml")
        tokenizer.save_pretrained(output_dir / "tokenizer")
    accelerator.wait_for_everyone()
    if config.train.trackers:
        accelerator.init_trackers("tcl")
    monitor = Monitor(
        accelerator, output_dir, first_step=step, total_steps=total_steps, log_every=config.train.log_every
    )
    monitor.say(_start_line(accelerator, config, student, loader, steps_per_epoch, total_steps, resumed))
    evaluate = _evaluation(accelerator, config, student, tokenizer, monitor)
    if step == 0:
        evaluate(step)

    student.train()
    teacher.train()
    nonfinite_in_a_row = 0
    last = resumed
    while step < total_steps:
        waiting = time.perf_counter()
        batches = [next(loader).to(accelerator.device, non_blocking=True) for _ in range(config.train.accumulate_steps)]
        waited = time.perf_counter() - waiting
        lr = learning_rate(step, total_steps, config.optim)
        result = train_step(
            accelerator,
            student,
            engine,
            teacher,
            optimizer,
            batches,
            step=step,
            seed=config.seed,
            learning_rate=lr,
            alpha=soft_target_share(step, config.objective.alpha_ramp_epochs * steps_per_epoch, config.objective.alpha),
            clip_grad_norm=config.optim.clip_grad_norm,
        )
        step += 1
        nonfinite_in_a_row = 0 if result.finite else nonfinite_in_a_row + 1
        if result.finite:
            monitor.step(
                result.scalars,
                step=step,
                epoch=step / steps_per_epoch,
                learning_rate=lr,
                samples=samples_per_step,
                waited=waited,
            )
        else:
            _report_nonfinite(accelerator, monitor, result.scalars, step, nonfinite_in_a_row, config)
        paused = monitor.pause()
        if step % steps_per_epoch == 0:
            _report_epoch(accelerator, monitor, loader, step, steps_per_epoch)
        if step % config.eval.every == 0 or step == total_steps:
            evaluate(step)
        if step % config.train.save_every == 0 or step == total_steps:
            progress = Progress(step, loader.state)
            last = save_checkpoint(
                accelerator, checkpoints, student, teacher, optimizer, progress, config.train.keep_checkpoints
            )
            monitor.say(f"saved {last}")
        monitor.resume(paused)
    loader.close()
    monitor.close()
    accelerator.end_training()
    return last


def _accelerator(config: PretrainConfig) -> Accelerator:
    device = Accelerator().device  # precision depends on the device, which accelerate chooses
    return Accelerator(
        mixed_precision=mixed_precision(config.train.precision, device),
        log_with=config.train.trackers or None,
        project_dir=config.output_dir,
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),
            InitProcessGroupKwargs(timeout=timedelta(seconds=max(1800, 2 * config.data.timeout))),
        ],
    )


def _apply_memory_and_compile_options(encoders: Encoders, config: TrainConfig) -> None:
    vit, bert = encoders.image_encoder.vit, encoders.text_encoder.bert
    if config.activation_checkpointing:
        vit.set_grad_checkpointing(True)
        bert.gradient_checkpointing_enable({"use_reentrant": False})
        encoders.fusion_encoder.activation_checkpointing = True
    if config.compile:
        layers: list[nn.Module] = [*vit.blocks, *bert.encoder.layer, *encoders.fusion_encoder.layers]
        for layer in layers:
            layer.compile(dynamic=True)


def _evaluation(accelerator: Accelerator, config: PretrainConfig, student: TCL, tokenizer, monitor: Monitor):
    """A function of the step that evaluates and reports; without data.val one that does nothing."""
    if config.data.val is None:
        return lambda step: None
    data, image = config.data, student.encoders.image_encoder
    pairs = load_retrieval_set(
        data.val, max_images=config.eval.max_images, max_words=data.max_words, max_pixels=data.max_pixels
    )
    if pairs.bad:
        monitor.say(f"data.val: skipped {_counts(pairs.bad)}")

    def evaluate(step: int) -> None:
        recalls = zero_shot_retrieval(
            accelerator,
            student,
            pairs,
            eval_transform(config.model.image.image_size, image.mean, image.std),
            partial(tokenize, tokenizer, max_tokens=data.max_tokens),
            data.max_pixels,
            config.eval,
        )
        monitor.write({"step": step} | {f"eval_{name}": value for name, value in recalls.items()})
        shown = ", ".join(f"{name} {value:.1f}" for name, value in recalls.items())
        monitor.say(f"retrieval after {step} steps, {len(pairs.images)} images x {len(pairs.captions)} texts: {shown}")

    return evaluate


def _report_nonfinite(accelerator, monitor, scalars, step: int, in_a_row: int, config: PretrainConfig) -> None:
    own = [name for name in LOSS_NAMES if name in scalars and not torch.isfinite(scalars[name])]
    names = ", ".join(dict.fromkeys(gather_object(own))) or "loss"
    monitor.say(f"step {step}: skipped, not finite: {names} ({in_a_row} in a row)")
    monitor.write({"step": step, "skipped": 1})
    if in_a_row >= config.train.max_nonfinite_steps:
        raise InputError(
            f"train.max_nonfinite_steps: {in_a_row} steps in a row were not finite, the last one in {names}; lower "
            f"optim.lr ({config.optim.lr}), lengthen optim.warmup_steps, or set train.precision fp32"
        )


def _report_epoch(accelerator, monitor: Monitor, loader: TrainLoader, step: int, steps_per_epoch: int) -> None:
    loader.bad.check_epoch()
    bad = sum((Counter(report) for report in gather_object([loader.bad.epoch_report()])), Counter())
    monitor.say(f"epoch {step // steps_per_epoch} done; samples not usable: {_counts(bad)}")
    monitor.write({"step": step} | {f"bad/{cause}": count for cause, count in bad.items()})


def _counts(bad: Counter[str]) -> str:
    return ", ".join(f"{count} {cause}" for cause, count in bad.most_common()) or "none"


def _start_line(accelerator, config, student, loader, steps_per_epoch: int, total_steps: int, resumed) -> str:
    trained = sum(parameter.numel() for parameter in student.parameters() if parameter.requires_grad)
    batch = config.train.batch_size * config.train.accumulate_steps * accelerator.num_processes
    return (
        f"{accelerator.num_processes} process(es) on {accelerator.device.type}, "
        f"{'bf16 autocast' if accelerator.mixed_precision == 'bf16' else 'fp32'}, {trained / 1e6:.1f}M parameters, "
        f"batch {batch}, {loader.samples:,} samples, {steps_per_epoch} steps an epoch, {total_steps} steps in all"
        + (f", resumed from {resumed}" if resumed else "")
    )
