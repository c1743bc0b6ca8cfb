"""The pre-training run: config in, checkpoints and metrics out."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

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
from tcl.training.accelerator import build_accelerator
from tcl.training.checkpoint import checkpoint_to_resume, finish_saving, load_checkpoint, save_checkpoint
from tcl.training.checkpoint_store import CheckpointStore
from tcl.training.engine import Engine, build_engine
from tcl.training.monitor import Monitor
from tcl.training.optim import learning_rate, soft_target_share
from tcl.training.preemption import Preempted, StopRequest, listen_for_stop
from tcl.training.step import train_step
from tcl.training.world import describe_world

LOSS_NAMES = ("i2t", "t2i", "imc_image", "imc_text", "lmi_image", "lmi_text", "itm", "mlm", "grad_norm")


@dataclass
class _Run:
    """What the loop works with."""

    config: PretrainConfig
    accelerator: Accelerator
    engine: Engine
    teacher: Momentum
    loader: TrainLoader
    monitor: Monitor
    store: CheckpointStore
    evaluate: Callable[[int], float | None]
    steps_per_epoch: int
    total_steps: int

    @property
    def samples_per_step(self) -> int:
        train = self.config.train
        return train.batch_size * train.accumulate_steps * self.accelerator.num_processes


def pretrain(config: PretrainConfig) -> Path:
    """Run to the end, or on from the checkpoint that train.resume names; returns the last checkpoint's folder.

    Call it from one process, or from each of several that `accelerate launch` or torchrun started. InputError: bad
    data, names or checkpoints, a full disk, or losses that stay non-finite. Preempted: told to stop, and saved.
    """
    output_dir = Path(config.output_dir)
    accelerator = build_accelerator(config)
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    torch.manual_seed(config.seed)
    encoders = build_encoders(config.model, len(tokenizer), tokenizer.pad_token_id)
    student = TCL(encoders, config.objective)
    teacher = Momentum(encoders, config.objective, config.model.lmi_regions, config.seed).to(accelerator.device)
    world = describe_world(config, accelerator, student, teacher, bf16=accelerator.mixed_precision == "bf16")
    _apply_memory_and_compile_options(encoders, config.train)
    engine = build_engine(accelerator, student, config.optim)

    resumed, damaged = checkpoint_to_resume(accelerator, config.train.resume, output_dir / "checkpoints")
    progress = load_checkpoint(resumed, engine, teacher) if resumed else None
    step = progress.step if progress else 0
    loader = train_loader(
        config.data,
        tokenizer=tokenizer,
        image_size=config.model.image.image_size,
        mean=encoders.image_encoder.mean,
        std=encoders.image_encoder.std,
        batch_size=config.train.batch_size,
        mlm_probability=config.objective.mlm_probability,
        seed=config.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        start=progress.loaders if progress else None,
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
    run = _Run(
        config,
        accelerator,
        engine,
        teacher,
        loader,
        monitor,
        CheckpointStore(output_dir / "checkpoints", config.train.keep_checkpoints, config.train.save_asynchronously),
        evaluate=_evaluation(accelerator, config, engine, tokenizer, monitor),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
    )
    for line in damaged:
        monitor.say(f"damaged checkpoint passed over: {line}")
    for line in world:
        monitor.say(line)
    monitor.say(
        f"{loader.samples:,} samples, {steps_per_epoch} steps an epoch, {total_steps} steps in all"
        + (f", resumed from {resumed}" if resumed else "")
    )
    if loader.notice:
        monitor.say(loader.notice)
    try:
        with listen_for_stop() as stop:
            return _train(run, step, resumed, progress.best_score if progress else None, stop)
    except RuntimeError as error:
        # News that a loader process died may arrive anywhere in the loop.
        raise loader.explain(error) or error from error
    finally:
        loader.close()
        monitor.close()
        accelerator.end_training()


def _train(run: _Run, step: int, last: Path | None, best_score: float | None, stop: StopRequest) -> Path:
    """From optimiser step `step` to the last; `last` is the checkpoint that holds this step, if one does."""
    config, accelerator, loader, monitor = run.config, run.accelerator, run.loader, run.monitor
    if step == 0:
        run.evaluate(step)
    run.engine.student.train()
    run.teacher.train()
    nonfinite_in_a_row = 0
    while step < run.total_steps:
        waiting = time.perf_counter()
        batches = [next(loader).to(accelerator.device, non_blocking=True) for _ in range(config.train.accumulate_steps)]
        waited = time.perf_counter() - waiting
        lr = learning_rate(step, run.total_steps, config.optim)
        ramp_steps = config.objective.alpha_ramp_epochs * run.steps_per_epoch
        result = train_step(
            run.engine,
            run.teacher,
            batches,
            step=step,
            seed=config.seed,
            learning_rate=lr,
            alpha=soft_target_share(step, ramp_steps, config.objective.alpha),
        )
        step += 1
        nonfinite_in_a_row = 0 if result.finite else nonfinite_in_a_row + 1
        if result.finite:
            monitor.step(
                result.scalars,
                step=step,
                epoch=step / run.steps_per_epoch,
                learning_rate=lr,
                samples=run.samples_per_step,
                waited=waited,
            )
        else:
            _report_nonfinite(run, result.scalars, step, nonfinite_in_a_row)
        paused = monitor.pause()
        is_last = step == run.total_steps
        stopping = stop.anywhere(accelerator.device)
        if step % run.steps_per_epoch == 0:
            _report_epoch(run, step)
        is_best = False
        if (step % config.eval.every == 0 and not stopping) or is_last:
            score = run.evaluate(step)
            is_best = score is not None and (best_score is None or score > best_score)
            best_score = score if is_best else best_score
        if step % config.train.save_every == 0 or is_last or is_best or stopping:
            last = save_checkpoint(
                accelerator,
                run.store,
                run.engine,
                run.teacher,
                step=step,
                best_score=best_score,
                loader=loader.state,
                is_best=is_best,
            )
            monitor.say(f"saving {last}" if config.train.save_asynchronously else f"saved {last}")
        if stopping and not is_last:
            finish_saving(run.store)
            raise Preempted(f"told to stop ({stop.signal or 'another process was'}); saved {last}")
        monitor.resume(paused)
    finish_saving(run.store)
    return last


def _apply_memory_and_compile_options(encoders: Encoders, config: TrainConfig) -> None:
    vit, bert = encoders.image_encoder.vit, encoders.text_encoder.bert
    if config.activation_checkpointing:
        vit.set_grad_checkpointing(True)
        bert.activation_checkpointing_enable({"use_reentrant": False})
        encoders.fusion_encoder.activation_checkpointing = True
    if config.compile:
        layers: list[nn.Module] = [*vit.blocks, *bert.encoder.layer, *encoders.fusion_encoder.layers]
        for layer in layers:
            layer.compile(dynamic=True)


def _evaluation(accelerator: Accelerator, config: PretrainConfig, engine: Engine, tokenizer, monitor: Monitor):
    """A function of the step that evaluates, reports and returns the score by which the best checkpoint is kept: the
    mean of all recalls in percent, re-ranked where they are. Without data.val one that does nothing."""
    if config.data.val is None:
        return lambda step: None
    data, image = config.data, engine.student.encoders.image_encoder
    pairs = load_retrieval_set(
        data.val, max_images=config.eval.max_images, max_words=data.max_words, max_pixels=data.max_pixels
    )
    if pairs.bad:
        monitor.say(f"data.val: skipped {_counts(pairs.bad)}")

    def evaluate(step: int) -> float:
        recalls = zero_shot_retrieval(
            accelerator,
            engine.whole_student(),
            pairs,
            eval_transform(config.model.image.image_size, image.mean, image.std),
            partial(tokenize, tokenizer, max_tokens=data.max_tokens),
            data.max_pixels,
            config.eval,
        )
        monitor.write({"step": step} | {f"eval_{name}": value for name, value in recalls.items()})
        shown = ", ".join(f"{name} {value:.1f}" for name, value in recalls.items())
        monitor.say(f"retrieval after {step} steps, {len(pairs.images)} images x {len(pairs.captions)} texts: {shown}")
        final = [value for name, value in recalls.items() if name.startswith("rerank_")] or list(recalls.values())
        return sum(final) / len(final)

    return evaluate


def _report_nonfinite(run: _Run, scalars: dict[str, Tensor], step: int, in_a_row: int) -> None:
    own = [name for name in LOSS_NAMES if name in scalars and not torch.isfinite(scalars[name])]
    names = ", ".join(dict.fromkeys(gather_object(own))) or "loss"
    run.monitor.say(f"step {step}: skipped, not finite: {names} ({in_a_row} in a row)")
    run.monitor.write({"step": step, "skipped": 1})
    config = run.config
    if in_a_row >= config.train.max_nonfinite_steps:
        raise InputError(
            f"train.max_nonfinite_steps: {in_a_row} steps in a row were not finite, the last one in {names}; lower "
            f"optim.lr ({config.optim.lr}), lengthen optim.warmup_steps, or set train.precision fp32"
        )


def _report_epoch(run: _Run, step: int) -> None:
    epoch = step // run.steps_per_epoch
    bad = sum((Counter(report) for report in gather_object([run.loader.end_epoch()])), Counter())
    seen = sum((Counter(one) for one in gather_object([run.loader.seen])), Counter())
    # What does not fill a step waits for the next epoch: passes over the data fall behind the epochs little by little.
    newest = max(max(seen) - 1, 0)
    run.monitor.say(
        f"epoch {epoch} done; pass {newest + 1} over the data: {seen[newest]:,} distinct samples of "
        f"{run.loader.samples:,} seen; not usable: {_counts(bad)}"
    )
    row = {"step": step, "pass": newest + 1, "samples_seen": seen[newest]}
    run.monitor.write(row | {f"bad/{cause}": count for cause, count in bad.items()})


def _counts(bad: Counter[str]) -> str:
    return ", ".join(f"{count} {cause}" for cause, count in bad.most_common()) or "none"
