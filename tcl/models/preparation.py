"""What is left to do to a batch on the device, before its encoders take it."""

from collections.abc import Callable
from dataclasses import replace

import torch

from tcl.data.batch import Batch
from tcl.data.images.images import prepare_images
from tcl.encoders.image_encoder import ImageEncoder


def image_preparation(encoder: ImageEncoder, device: torch.device) -> Callable[[Batch], Batch]:
    """For batches on `device` whose input "image" `encoder` is to take."""
    mean, std = (torch.tensor(values, device=device) for values in (encoder.mean, encoder.std))

    def prepare(batch: Batch) -> Batch:
        return replace(batch, inputs=batch.inputs | {"image": prepare_images(batch.inputs["image"], mean, std)})

    return prepare
