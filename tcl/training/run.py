"""A run: configuration in, checkpoints and metrics out. Pre-training and every fine-tuning task are run by it."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from tcl.checkpoints.build import describe_run
from tcl.command_line import save_config
from tcl.data.batch import Batch, QuestionBatch, to_device
from tcl.data.batched_operations import finish_views
from tcl.data.loader import TrainLoader, train_loader
from tcl.data.normalise import normalise_images
from tcl.errors import InputError, Preempted
from tcl.training.accelerator import build_accelerator
from tcl.training.checkpoint import checkpoint_to_resume, finish_saving, load_checkpoint, save_checkpoint
from tcl.training.checkpoint_store import CheckpointStore
from tcl.training.engine import Engine, build_engine
from tcl.training.evaluate import save_evaluation
from tcl.training.host_memory import keep_freed_memory
from tcl.training.layers import prepare_layers
from tcl.training.monitor import NOT_LOSSES, Monitor
from tcl.training.optim import learning_rate, soft_target_share
from tcl.training.preemption import StopRequest, listen_for_stop
from tcl.training.step import train_step
from tcl.training.task import BuildTask, RunConfig, Task
from tcl.training.world import describe_world


@dataclass
class _Run:
    """What the loop works with."""

    config: RunConfig
    accelerator: Accelerator
    engine: Engine
    task: Task
    loader: TrainLoader
    monitor: Monitor
    store: CheckpointStore
    samples_per_step: int
    """Of all processes."""
    steps_per_epoch: int
    total_steps: int
    mean: Tensor
    """[3], with std the normalisation of images, on the device."""
    std: Tensor


def train(config: RunConfig, build_task: BuildTask) -> Path:
    """Run to the end, or on from the checkpoint that train.resume names; returns the last checkpoint's folder.

    Call it from one process, or from each of several that `accelerate launch` or torchrun started. InputError: bad
    data, names or checkpoints, a full disk, or losses that stay non-finite. Preempted: told to stop, and saved.
    """
    output_dir = Path(config.output_dir)
    accelerator = build_accelerator(config)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(config.seed)
    task = build_task(config, accelerator)
    task.teacher.to(accelerator.device)
    world = describe_world(config, accelerator, task)
    bf16 = accelerator.mixed_precision == "bf16"
    prepare_layers(task.student.averaged, config.train, accelerator.device, bf16)
    engine = build_engine(accelerator, task.student, config.optim)

    resumed, damaged = checkpoint_to_resume(accelerator, config.train.resume, output_dir / "checkpoints")
    progress = load_checkpoint(resumed, engine, task.teacher) if resumed else None
    step = progress.step if progress else 0
    loader = train_loader(
        config.data,
        reader=task.reader,
        batch_size=config.train.batch_size,
        seed=config.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        start=progress.loaders if progress else None,
        pin_memory=accelerator.device.type == "cuda",
    )
    run = _begin(config, accelerator, engine, task, loader, step)
    going_on = f", resumed from {resumed}" if resumed else ""
    for line in [
        *(f"damaged checkpoint passed over: {line}" for line in damaged),
        *world,
        *task.notices,
        f"{loader.samples:,} samples, {run.steps_per_epoch} steps an epoch, {run.total_steps} steps in all{going_on}",
        *([loader.notice] if loader.notice else []),
    ]:
        run.monitor.say(line)
    try:
        with listen_for_stop() as stop:
            return _train(run, step, resumed, progress.best_score if progress else None, stop)
    except RuntimeError as error:
        # News that a loader process died may arrive anywhere in the loop.
        raise loader.explain(error) or error from error
    finally:
        loader.close()
        run.monitor.close()
        accelerator.end_training()


def _begin(
    config: RunConfig, accelerator: Accelerator, engine: Engine, task: Task, loader: TrainLoader, step: int
) -> _Run:
    """The run at optimiser step `step`; its configuration and tokenizer are in output_dir, its trackers started."""
    output_dir = Path(config.output_dir)
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        save_config(config, output_dir / "config.yaml")
        lengths = {"max_tokens": config.data.max_tokens, "max_words": config.data.max_words}
        describe_run(config.model, task.student, output_dir, **lengths, answers=task.answers)
        task.tokenizer.save_pretrained(output_dir / "tokenizer")
    accelerator.wait_for_everyone()
    if config.train.trackers:
        accelerator.init_trackers("tcl")
    samples_per_step = config.train.batch_size * config.train.accumulate_steps * accelerator.num_processes
    steps_per_epoch = max(loader.samples // samples_per_step, 1)
    total_steps = config.train.steps or config.train.epochs * steps_per_epoch
    image = task.student.averaged.image_encoder
    return _Run(
        config,
        accelerator,
        engine,
        task,
        loader,
        Monitor(accelerator, output_dir, first_step=step, total_steps=total_steps, log_every=config.train.log_every),
        CheckpointStore(output_dir / "checkpoints", config.train.keep_checkpoints, config.train.save_asynchronously),
        samples_per_step=samples_per_step,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        mean=torch.tensor(image.mean, device=accelerator.device),
        std=torch.tensor(image.std, device=accelerator.device),
    )


def _train(run: _Run, step: int, last: Path | None, best_score: float | None, stop: StopRequest) -> Path:
    """From optimiser step `step` to the last; `last` is the checkpoint that holds this step, if one does."""
    config, monitor = run.config, run.monitor
    if step == 0:
        _evaluate(run, step)
    run.engine.student.train()
    run.task.teacher.train()
    nonfinite_in_a_row = 0
    while step < run.total_steps:
        waiting = time.perf_counter()
        arrived = [next(run.loader) for _ in range(config.train.accumulate_steps)]
        waited = time.perf_counter() - waiting
        batches = [_on_device(run, batch) for batch in arrived]
        lr = learning_rate(step, run.total_steps, config.optim)
        ramp_steps = config.objective.alpha_ramp_epochs * run.steps_per_epoch
        result = train_step(
            run.engine,
            run.task.teacher,
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
        stopping = stop.anywhere(run.accelerator.device)
        if step % run.steps_per_epoch == 0:
            _report_epoch(run, step)
        is_best = False
        if (step % config.eval.every == 0 and not stopping) or is_last:
            score = _evaluate(run, step, is_last)
            is_best = score is not None and (best_score is None or score > best_score)
            best_score = score if is_best else best_score
        if step % config.train.save_every == 0 or is_last or is_best or stopping:
            last = _save(run, step, best_score, is_best)
        if stopping and not is_last:
            finish_saving(run.store)
            raise Preempted(f"told to stop ({stop.signal or 'another process was'}); saved {last}")
        monitor.resume(paused)
    finish_saving(run.store)
    return last


def _save(run: _Run, step: int, best_score: float | None, is_best: bool) -> Path:
    """Write the checkpoint of optimiser step `step`; returns its folder."""
    saved = save_checkpoint(
        run.accelerator,
        run.store,
        run.engine,
        run.task.teacher,
        step=step,
        best_score=best_score,
        loader=run.loader.state,
        is_best=is_best,
    )
    run.monitor.say(f"saving {saved}" if run.config.train.save_asynchronously else f"saved {saved}")
    return saved


def _on_device(run: _Run, batch: Batch | QuestionBatch) -> Batch | QuestionBatch:
    """`batch` on the device, its images as the encoder takes them."""
    return normalise_images(finish_views(to_device(batch, run.accelerator.device)), run.mean, run.std)


def _evaluate(run: _Run, step: int, is_last: bool = False) -> float | None:
    """Evaluate and report; returns the score by which the best checkpoint is kept. The last one leaves its results for
    each sample in <output_dir>/results."""
    if run.task.evaluate is None:
        return None
    found = run.task.evaluate(run.accelerator, run.engine.whole_student())
    run.monitor.write({"step": step} | {f"eval_{name}": value for name, value in found.metrics.items()})
    run.monitor.say(f"after {step} steps, {found.line}")
    if is_last:
        save_evaluation(run.accelerator, found, Path(run.config.output_dir))
    return found.score


def _report_nonfinite(run: _Run, scalars: dict[str, Tensor], step: int, in_a_row: int) -> None:
    own = [name for name, value in scalars.items() if name not in NOT_LOSSES and not torch.isfinite(value)]
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
