"""Pre-training on clips with captions: what a run is made of whose objective is TCL's, of video and text."""

from functools import partial

import numpy as np
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from tcl.config.data import DataConfig
from tcl.config.model import ModelConfig
from tcl.data.feed.video_text_reader import VideoTextReader
from tcl.data.sets.clip_set import StoredClip, clip_pixels, frames_of, load_clip_set
from tcl.encoders.text_encoder import check_length
from tcl.evaluation.decoded_images import in_batches
from tcl.evaluation.rescoring_bank import without_evaluated
from tcl.models.preparation import image_preparation
from tcl.objectives.pair_objective import PairObjective
from tcl.tasks.pretrain import pair_sizes
from tcl.tasks.pretrain_clips import check_augmented_by_workers
from tcl.tasks.pretrain_judged import HeldOut, judge
from tcl.tasks.task import RunConfig, Task


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
    data, model, encoders = config.data, config.model, student.encoders
    check_length(data.max_tokens, encoders.text_encoder.bert.config, "data.max_tokens")
    check_augmented_by_workers(data)
    reader = VideoTextReader(
        data,
        model.video,
        model.audio,
        tokenizer,
        image_size=model.image.image_size,
        mlm_probability=objective.masked_share(config.objective),
        hears=student.sound is not None,
        named_ids=named_ids,
    )
    task = Task(
        objective.kind,
        student,
        objective.build_teacher(student, model, config.seed, named_ids),
        tokenizer,
        reader,
        prepare=image_preparation(encoders.image_encoder),
        evaluate=None,
        activation_bytes=objective.activation_bytes(student, config.objective, pair_sizes(config, accelerator)),
        distillation=objective.distillation(config.objective),
        notices=objective.notices(config.objective),
    )
    if data.val is not None:
        judge(task, config, objective, _held_out(config, student))
    return task


def _held_out(config: RunConfig, student: nn.Module) -> HeldOut:
    """Of config.data.val and config.eval. InputError: no usable clip."""
    data, model, encoder = config.data, config.model, student.encoders.image_encoder
    size, video = model.image.image_size, model.video
    clips, bank = load_clip_set(data.val, data, video, size, max_clips=config.eval.max_images), None
    if config.eval.rescore_bank is not None:
        field, pattern = "eval.rescore_bank", config.eval.rescore_bank
        bank = without_evaluated(load_clip_set(pattern, data, video, size, field=field), clips, field, pattern)
    read = partial(clip_pixels, data=data, video=video, size=size, mean=tuple(encoder.mean), std=tuple(encoder.std))
    return HeldOut(clips, bank, partial(in_batches, read=read), partial(_first_middle_last, data=data, model=model))


def _first_middle_last(clip: StoredClip, data: DataConfig, model: ModelConfig) -> np.ndarray:
    """Three of its frames, as many as there are, side by side [H, W, 3] uint8."""
    frames = frames_of(clip, data, model.video, model.image.image_size)
    shown = sorted({0, len(frames) // 2, len(frames) - 1})
    return np.concatenate([frames[place].permute(1, 2, 0).numpy() for place in shown], axis=1)
