"""Pre-training on clips: what a run is made of whose objective reads video, sound and text."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from tcl.config.checks import require
from tcl.config.data import DataConfig
from tcl.data.batch import Batch
from tcl.data.feed.clip_reader import ClipReader
from tcl.data.sets.streamed_set import StreamedSet
from tcl.data.shards.bad_sample import counted
from tcl.data.video.clips import Clips
from tcl.encoders.text_encoder import check_length
from tcl.encoders.video import VideoEncoder
from tcl.evaluation.evaluate_clips import evaluate_clips
from tcl.objectives.pair_objective import PairObjective
from tcl.tasks.pretrain import pair_sizes
from tcl.tasks.task import Evaluation, RunConfig, Task


def make_task(
    config: RunConfig,
    accelerator: Accelerator,
    objective: PairObjective,
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    *,
    named_ids: bool,
) -> Task:
    """As `tcl.tasks.pretrain.pair_task`. InputError: options that clips do not have."""
    data, encoders = config.data, student.encoders
    check_length(data.max_tokens, encoders.text_encoder.bert.config, "data.max_tokens")
    check_augmented_by_workers(data)
    sizes = pair_sizes(config, accelerator)
    reader = ClipReader(
        data,
        config.model.video,
        config.model.audio,
        tokenizer,
        image_size=config.model.image.image_size,
        named_ids=named_ids,
    )
    evaluate = None
    if data.val is not None:
        cut = config.eval.max_images
        held_out = StreamedSet(data, partial(reader.read, rng=None), partial(reader.batch, seed=0), max_samples=cut)
        evaluate = partial(_evaluate, held_out=held_out, batch_size=config.eval.batch_size)
    return Task(
        objective.kind,
        student,
        objective.build_teacher(student, config.model, config.seed, named_ids),
        tokenizer,
        reader,
        prepare=clip_preparation(encoders.video_encoder),
        evaluate=evaluate,
        activation_bytes=objective.activation_bytes(
            student, config.objective, sizes._replace(max_tokens=data.clips.captions * sizes.max_tokens)
        ),
        distillation=objective.distillation(config.objective),
        notices=objective.notices(config.objective),
    )


def _evaluate(
    accelerator: Accelerator, student: nn.Module, *, held_out: StreamedSet[Batch], batch_size: int
) -> Evaluation:
    """The score is the mean of all recalls, in percent, between modalities that training compares."""
    metrics, bad = evaluate_clips(accelerator, student.encoders, held_out, batch_size, student.modalities)
    ways = [f"{one}2{other}_r" for pair in student.pairs.values() for one, other in (pair, pair[::-1])]
    recalls = [value for name, value in metrics.items() if name.startswith(tuple(ways))]
    among = [name.removesuffix("_candidates") for name in metrics if name.endswith("_candidates")]
    shown = [f"{way}_r1 {metrics[f'{way}_r1']:.1f} (chance {metrics[f'{way}_chance_r1']:.1f})" for way in among]
    line = f"retrieval among the modalities of clips: {', '.join(shown)}"
    line += f"; skipped {counted(bad)}" if bad else ""
    score = sum(recalls) / len(recalls) if recalls else None
    return Evaluation(metrics, score, line, partial(_write, metrics=metrics))


def _write(folder: Path, *, metrics: dict[str, float]) -> None:
    """retrieval.json."""
    (folder / "retrieval.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


def check_augmented_by_workers(data: DataConfig) -> None:
    """InputError: frames of clips are to be augmented on the device."""
    on_device = data.augment.on_device
    require(not on_device, "data.augment.on_device", on_device, "false: frames of clips are augmented by the workers")


def clip_preparation(encoder: VideoEncoder) -> Callable[[Batch], Batch]:
    """For batches whose "video" `encoder` is to take."""

    def prepare(batch: Batch) -> Batch:
        clips = Clips(encoder.prepare(batch.inputs["video"].frames))
        return replace(batch, inputs=batch.inputs | {"video": clips})

    return prepare
