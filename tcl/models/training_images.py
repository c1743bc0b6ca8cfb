"""What a run reads of the images of data.train: pixels, or the stored tokens of its frozen image tower."""

from collections.abc import Callable
from typing import NamedTuple

from tcl.config.data import DataConfig
from tcl.config.model import ImageEncoderConfig
from tcl.data.batch import Batch
from tcl.data.feed.view_reader import ViewReader
from tcl.data.images.pixel_views import PixelViews
from tcl.data.tokens.description import require_augment, require_tower, stored_tokens_of
from tcl.data.tokens.token_views import TokenViews
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.tower import tower_of
from tcl.errors import InputError
from tcl.models.preparation import image_preparation


class TrainingImages(NamedTuple):
    """For a `Task`."""

    views: ViewReader
    prepare: Callable[[Batch], Batch]
    """A batch that has come to the device -> as the image encoder takes it."""
    notices: list[str]


def training_images(
    data: DataConfig, config: ImageEncoderConfig, encoder: ImageEncoder, names: tuple[str, ...] = ("image",)
) -> TrainingImages:
    """Of data.train, for `encoder`, which was built from `config` and has its initial weights. names: of the inputs of
    a batch that are images, one for each image of a sample.

    InputError: stored tokens that are not those of this tower, of an encoder whose network is trained, or for samples
    of several images; a mixture.
    """
    found = stored_tokens_of([source.shards for source in data.train])
    if found is None:
        return TrainingImages(PixelViews(data, config.image_size), image_preparation(encoder, names), [])
    place, stored = found
    if len(names) > 1:
        raise InputError(
            f"data.train: {place} is of stored tokens, one image a sample, but here a sample has {len(names)} "
            f"({', '.join(names)}); train from images"
        )
    for name, needed in (("frozen", True), ("patch_drop", 0.0)):
        given = getattr(config, name)
        if given != needed:
            raise InputError(
                f"model.image.{name}: {given} is not possible with stored tokens ({place}), which are those of a whole "
                f"network that is not trained; accepted: {str(needed).lower()}, or train from images"
            )
    require_tower(stored.tower, tower_of(encoder, config), place)
    require_augment(stored.augment, data.augment, place)
    views, tokens, width = stored.shape
    notice = (
        f"images: stored tokens of {stored.tower.name} at {stored.tower.image_size} px, {views} view(s) an image of "
        f"{tokens} x {width} in {stored.storage}; the tower runs in evaluation only"
    )
    return TrainingImages(TokenViews(stored), lambda batch: batch, [notice])
