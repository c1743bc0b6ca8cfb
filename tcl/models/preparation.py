"""What is left to do to a batch on the device, before its encoders take it."""

from collections.abc import Callable
from dataclasses import replace

from tcl.data.batch import Batch
from tcl.data.images.image_views import prepare_images
from tcl.encoders.image_encoder import ImageEncoder


def image_preparation(encoder: ImageEncoder, names: tuple[str, ...] = ("image",)) -> Callable[[Batch], Batch]:
    """For batches whose inputs of these names `encoder` is to take."""

    def prepare(batch: Batch) -> Batch:
        images = {name: prepare_images(batch.inputs[name], encoder.prepare) for name in names}
        return replace(batch, inputs=batch.inputs | images)

    return prepare
