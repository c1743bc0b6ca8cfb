"""A run: configuration in, checkpoints and metrics out. Pre-training and every fine-tuning task are run by it."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from tcl.checkpoints.checkpoint_store import CheckpointStore
from tcl.checkpoints.mirror import Mirror
from tcl.checkpoints.run_folder import run_folder_of
from tcl.data.batch import to_device
from tcl.data.feed.loader import TrainLoader, open_sources
from tcl.data.feed.sample_order import Source
from tcl.errors import InputError, Preempted
from tcl.exports.describe import write_model
from tcl.objectives.objective import Losses
from tcl.runs.description import describe_run_folder
from tcl.runs.launcher import watch_launcher
from tcl.runs.length import Length
from tcl.runs.lock import only_run_in
from tcl.runs.preemption import StopRequest, listen_for_stop
from tcl.runs.together import raise_together
from tcl.shown import shown
from tcl.tasks.task import BuildTask, RunConfig, Task
from tcl.training.accelerator import build_accelerator, start_trackers
from tcl.training.checkpoint import finish_saving, load_checkpoint, save_checkpoint
from tcl.training.describe_run import describe_run
from tcl.training.engine import Engine, build_engine
from tcl.training.epoch_report import report_epoch
from tcl.training.evaluate_only import save_evaluation
from tcl.training.host_memory import keep_freed_memory
from tcl.training.layers import prepare_layers
from tcl.training.mirrored import fetch_run, open_mirror
from tcl.training.monitor import Monitor
from tcl.training.open_loader import open_loader
from tcl.training.optimiser import learning_rate, soft_target_share
from tcl.training.resume import Start, check_changes, find_start
from tcl.training.run_name import named_run
from tcl.training.step import train_step


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
    mirror: Mirror | None
    length: Length
    total_steps: int


def train(config: RunConfig, build_task: BuildTask) -> Path:
    """Run to the end, or on from the checkpoint that train.resume names; returns the last checkpoint's folder.

    Call it from one process, or from each of several that `accelerate launch` or torchrun started. A run with nothing
    left to do changes no file. InputError: bad data, names or checkpoints, another run in output_dir, a full disk, or
    losses that stay non-finite. Preempted: told to stop, and saved.
    """
    watch_launcher()
    accelerator = build_accelerator(config)
    with (
        named_run(accelerator, config, config.train.resume) as config,
        only_run_in(accelerator, Path(config.output_dir)) as leave_name,
    ):
        for line in fetch_run(accelerator, config):
            accelerator.print(shown(line), flush=True)
        start = find_start(accelerator, config)
        sources = open_sources(config.data.train)
        batch = config.train.batch_size * config.train.accumulate_steps * accelerator.num_processes
        length = Length(
            sum(source.samples for source in sources),
            batch,
            start.first_batch or batch,
            config.train.epochs,
            config.train.steps,
        )
        if start.checkpoint is not None and length.last_step(start.step, start.samples) <= start.step:
            done = length.what_is_done(start.step, start.samples)
            accelerator.print(
                shown(f"nothing left to do: {start.checkpoint} is the end of this run; {done}"), flush=True
            )
            return start.checkpoint
        leave_name()
        return _train_from(start, length, sources, config, accelerator, build_task)


def _train_from(
    start: Start,
    length: Length,
    sources: list[Source],
    config: RunConfig,
    accelerator: Accelerator,
    build_task: BuildTask,
) -> Path:
    """As `train`. Files of the run are changed when everything is there that can be had before the first step."""
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(config.seed)
    task = build_task(config, accelerator)
    task.teacher.to(accelerator.device)
    changes = check_changes(accelerator, config, task.tokenizer, start.checkpoint)
    lines_of_run = describe_run(config, accelerator, task)
    bf16 = accelerator.mixed_precision == "bf16"
    prepare_layers(task.student, config.train, accelerator.device, bf16)
    engine = build_engine(accelerator, task.student, config.optim)
    if start.checkpoint is not None:
        load_checkpoint(start.checkpoint, engine, task.teacher)
    loader = open_loader(config, accelerator, task.reader, sources, start.progress.loaders if start.progress else None)
    try:
        run = _begin(config, accelerator, engine, task, loader, length, start)
        going_on = f", resumed from {start.checkpoint}" if start.checkpoint else ""
        for line in [
            *(f"damaged checkpoint passed over: {line}" for line in start.damaged),
            *run.monitor.notices,
            *changes,
            *lines_of_run,
            *task.notices,
            f"{length.samples:,} samples, {_rounded(length.steps_per_epoch)} steps an epoch, {run.total_steps} steps "
            f"in all{going_on}",
            *loader.notices,
            *length.notices,
        ]:
            run.monitor.say(line)
        try:
            with listen_for_stop(speaks=accelerator.is_main_process) as stop:
                return _train(run, start, stop)
        finally:
            run.monitor.close()
    except RuntimeError as error:
        # News that a loader process died may arrive anywhere in the loop.
        raise loader.explain(error) or error from error
    finally:
        loader.close()
        accelerator.end_training()


def _rounded(steps: float) -> str:
    return f"{steps:,.1f}".removesuffix(".0")


def _begin(
    config: RunConfig,
    accelerator: Accelerator,
    engine: Engine,
    task: Task,
    loader: TrainLoader,
    length: Length,
    start: Start,
) -> _Run:
    """The run at its start; its configuration and tokenizer are in output_dir, its trackers started."""
    output_dir = Path(config.output_dir)
    problem = None
    if accelerator.is_main_process:
        former_run = run_folder_of(str(start.checkpoint)) if start.checkpoint else None
        lengths = {"max_tokens": config.data.max_tokens, "max_words": config.data.max_words}
        describe = partial(write_model, task.kind, config.model, task.student, **lengths, answers=task.answers)
        problem = describe_run_folder(config, task.tokenizer, describe, step=start.step, former_run=former_run)
    raise_together(problem)
    start_trackers(accelerator, config)
    total_steps = length.last_step(start.step, start.samples)
    return _Run(
        config,
        accelerator,
        engine,
        task,
        loader,
        Monitor(
            accelerator, output_dir, first_step=start.step, total_steps=total_steps, log_every=config.train.log_every
        ),
        CheckpointStore(output_dir / "checkpoints", config.train.keep_checkpoints, config.train.save_asynchronously),
        open_mirror(accelerator, config),
        length=length,
        total_steps=total_steps,
    )


def _train(run: _Run, start: Start, stop: StopRequest) -> Path:
    """From the optimiser step of `start` to the last."""
    config, monitor, length, distillation = run.config, run.monitor, run.length, run.task.distillation
    step, seen, last = start.step, start.samples, start.checkpoint
    best_score = start.progress.best_score if start.progress else None
    if step == 0:
        _evaluate(run, step)
    run.engine.student.train()
    run.task.teacher.train()
    nonfinite_in_a_row = 0
    while step < run.total_steps:
        waiting = time.perf_counter()
        arrived = [next(run.loader) for _ in range(config.train.accumulate_steps)]
        waited = time.perf_counter() - waiting
        batches = [run.task.prepare(to_device(batch, run.accelerator.device)) for batch in arrived]
        lr = learning_rate(*length.schedule(step, seen, config.optim.warmup_steps), config.optim)
        result = train_step(
            run.engine,
            run.task.teacher,
            batches,
            step=step,
            seed=config.seed,
            learning_rate=lr,
            alpha=soft_target_share(*length.ramp(seen, distillation.alpha_ramp_epochs), distillation.alpha),
        )
        step, seen = step + 1, seen + length.batch
        nonfinite_in_a_row = 0 if result.finite else nonfinite_in_a_row + 1
        if result.finite:
            monitor.step(
                result,
                step=step,
                epoch=length.epoch(seen),
                learning_rate=lr,
                samples=length.batch,
                waited=waited,
            )
        else:
            _report_nonfinite(run, result.losses, step, nonfinite_in_a_row)
        paused = monitor.pause()
        is_last = step == run.total_steps
        stopping = stop.anywhere(run.accelerator.device)
        if length.ends_epoch(seen):
            report_epoch(monitor, run.loader, step, int(length.epoch(seen)))
        is_best = False
        if (step % config.eval.every == 0 and not stopping) or is_last:
            score = _evaluate(run, step, is_last)
            is_best = score is not None and (best_score is None or score > best_score)
            best_score = score if is_best else best_score
        if step % config.train.save_every == 0 or is_last or is_best or stopping:
            last = _save(run, step, seen, best_score, is_best)
        if stopping and not is_last:
            _finish(run)
            raise Preempted(f"told to stop ({stop.signal or 'another process was'}); saved {last}")
        monitor.resume(paused)
    _finish(run)
    return last


def _finish(run: _Run) -> None:
    """All is written, and sent to the mirror."""
    finish_saving(run.store)
    if run.mirror is not None and (problem := run.mirror.finish()) is not None:
        run.monitor.say(problem)


def _save(run: _Run, step: int, seen: int, best_score: float | None, is_best: bool) -> Path:
    """Write the checkpoint of optimiser step `step`; returns its folder."""
    saved = save_checkpoint(
        run.accelerator,
        run.store,
        run.engine,
        run.task.teacher,
        step=step,
        samples=seen,
        first_batch=run.length.first_batch,
        best_score=best_score,
        loader=run.loader.state,
        is_best=is_best,
    )
    run.monitor.say(f"saving {saved}" if run.config.train.save_asynchronously else f"saved {saved}")
    if run.mirror is not None and (problem := run.mirror.send_later()) is not None:
        run.monitor.say(problem)
    return saved


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


def _report_nonfinite(run: _Run, losses: Losses, step: int, in_a_row: int) -> None:
    own = [name for name, value in losses.each.items() if not torch.isfinite(value)]
    names = ", ".join(dict.fromkeys(gather_object(own))) or "loss"
    run.monitor.say(f"step {step}: skipped, not finite: {names} ({in_a_row} in a row)")
    run.monitor.write({"step": step, "skipped": 1})
    config = run.config
    if in_a_row >= config.train.max_nonfinite_steps:
        raise InputError(
            f"train.max_nonfinite_steps: {in_a_row} steps in a row were not finite, the last one in {names}; lower "
            f"optim.lr ({config.optim.lr}), lengthen optim.warmup_steps, or set train.precision fp32"
        )
