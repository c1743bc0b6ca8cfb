"""Pre-training on clips: what a run is made of whose objective reads video, sound and text."""

from collections.abc import Callable
from dataclasses import replace

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from tcl.config.checks import require
from tcl.data.batch import Batch
from tcl.data.feed.clip_reader import ClipReader
from tcl.data.video.clips import Clips
from tcl.encoders.text_encoder import check_length
from tcl.encoders.video import VideoEncoder
from tcl.objectives.pair_objective import PairObjective
from tcl.tasks.pretrain import pair_sizes
from tcl.tasks.task import RunConfig, Task


def clip_task(
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
    on_device = data.augment.on_device
    require(not on_device, "data.augment.on_device", on_device, "false: frames of clips are augmented by the workers")
    sizes = pair_sizes(config, accelerator)
    reader = ClipReader(
        data,
        config.model.video,
        config.model.audio,
        tokenizer,
        image_size=config.model.image.image_size,
        named_ids=named_ids,
    )
    return Task(
        objective.kind,
        student,
        objective.build_teacher(student, config.model, config.seed, named_ids),
        tokenizer,
        reader,
        prepare=clip_preparation(encoders.video_encoder),
        evaluate=None,
        activation_bytes=objective.activation_bytes(
            student, config.objective, sizes._replace(max_tokens=data.clips.captions * sizes.max_tokens)
        ),
        distillation=objective.distillation(config.objective),
        notices=objective.notices(config.objective),
    )


def clip_preparation(encoder: VideoEncoder) -> Callable[[Batch], Batch]:
    """For batches whose "video" `encoder` is to take."""

    def prepare(batch: Batch) -> Batch:
        clips = Clips(encoder.prepare(batch.inputs["video"].frames))
        return replace(batch, inputs=batch.inputs | {"video": clips})

    return prepare
