"""Shards in, batches out."""

from dataclasses import dataclass, field

from tcl.config.checks import check_at_least, require
from tcl.config.clips import ClipsConfig, check_clips
from tcl.config.free import AS_BEFORE, FREE
from tcl.errors import InputError


@dataclass
class SourceConfig:
    """One set of webdataset shards."""

    shards: str = field(metadata=FREE)
    """A local glob (cc3m/*.tar), a brace range (cc3m/{000000..000331}.tar), or a URL (https, s3, gs, pipe:) with
    brace ranges. Of images with texts, or of the stored tokens of a frozen image tower (`tcl shards --tokens`)."""
    weight: float | None = None
    """Share of the drawn samples relative to the other sources, > 0. Give it for all sources or for none; without
    weights all shards form one pool and every sample is seen once an epoch."""


@dataclass
class AugmentConfig:
    """How each of the two views of a training image is made. Defaults are the paper's."""

    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Smallest and largest share of the area that a random resized crop keeps, 0 < low <= high <= 1."""
    whole_image: bool = field(default=False, metadata=AS_BEFORE)
    """Squeeze the whole image into the square, as in evaluation, where a crop could leave out what the text speaks of;
    crop_scale means nothing then."""
    flip_prob: float = 0.5
    """Probability of a horizontal flip, 0 to 1. Use 0 when captions speak of left and right."""
    color_jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    """Strength of brightness, contrast, saturation (each >= 0) and hue (0 to 0.5) jitter."""
    color_jitter_prob: float = 0.8
    """Probability of colour jitter, 0 to 1."""
    grayscale_prob: float = 0.2
    """Probability of dropping colour, 0 to 1."""
    blur_prob: float = 0.5
    """Probability of a Gaussian blur (sigma 0.1 to 2 pixels), 0 to 1."""
    randaugment_ops: int = 2
    """Operations drawn by RandAugment per view, >= 0. Colour-destroying operations are never drawn."""
    randaugment_magnitude: int = 7
    """Strength of RandAugment, 0 to 10."""
    views: int | None = field(default=None, metadata=AS_BEFORE)
    """How many views an image has, >= 1, of which one is drawn each time; they are the same in all epochs and runs.
    None: a new one each time. For frozen networks that remember (model.image.remember), or whose tokens are stored
    (`tcl shards --tokens`): then they must be as many as were stored, which None leaves to the shards."""
    on_device: bool = field(default=False, metadata=FREE)
    """Take all steps but the crop on the training device, in batches, instead of in the workers: for a GPU that few
    CPU cores have to feed. Views are the same but for rounding (`tcl.data.images.batched_operations`)."""


@dataclass
class DataConfig:
    """Shards in, batches out."""

    train: list[SourceConfig] = field(default_factory=list)
    """Training sources, at least one."""
    val: str | None = field(default=None, metadata=FREE)
    """Validation shards (as in SourceConfig.shards) for zero-shot retrieval; without them evaluation is off."""
    max_tokens: int = 25
    """Longest text in tokens, [CLS] included, >= 2. 25 in the paper's pre-training, 30 in retrieval."""
    max_words: int = 30
    """Longest text in words after cleaning, >= 1."""
    workers: int = field(default=2, metadata=FREE)
    """Loader processes per training process, >= 0 (0: load in the training process)."""
    shuffle_buffer: int = 1000
    """Samples that a worker holds undecoded and shuffles among, >= 1. Shards are shuffled as well."""
    max_bad_fraction: float = field(default=0.05, metadata=FREE)
    """The run stops once more than this share of the last 10,000 samples could not be used, 0 to 1."""
    max_pixels: int = field(default=100_000_000, metadata=FREE)
    """Images with more pixels are skipped as decompression bombs, >= 1."""
    max_sample_bytes: int = field(default=134_217_728, metadata=FREE)
    """Samples whose files have more bytes are skipped unread, >= 1. The default, 128 MiB, holds a JPEG of 100 million
    pixels at the highest quality; a worker holds up to shuffle_buffer samples."""
    timeout: int = field(default=600, metadata=FREE)
    """Seconds to wait for a batch before the run stops with a message, >= 0 (0: wait for ever)."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    clips: ClipsConfig = field(default_factory=ClipsConfig, metadata=AS_BEFORE)


def check_data(data: DataConfig, trains: bool = True) -> None:
    """Text lengths, limits, augmentation and sources; trains: sources to train on are needed.

    Shards are not looked up: `tcl.data.shards.list_shards.check_shards` does.
    """
    counts = ("max_words", "shuffle_buffer", "max_pixels", "max_sample_bytes")
    check_at_least(1, {f"data.{name}": getattr(data, name) for name in counts})
    check_at_least(0, {"data.workers": data.workers, "data.timeout": data.timeout})
    require(data.max_tokens >= 2, "data.max_tokens", data.max_tokens, "an integer >= 2: [CLS] and a token")
    require(0 <= data.max_bad_fraction <= 1, "data.max_bad_fraction", data.max_bad_fraction, "0 to 1")
    check_augment(data.augment)
    check_clips(data.clips)
    if not trains:
        return
    if not data.train:
        raise InputError("data.train: no sources; give at least one, e.g. [{shards: data/*.tar}]")
    weights = [source.weight for source in data.train]
    given = [weight for weight in weights if weight is not None]
    if given and (len(given) < len(weights) or min(given) <= 0):
        raise InputError(f"data.train: weights {weights}; give every source a weight > 0, or none of them")


def check_augment(augment: AugmentConfig) -> None:
    """InputError: the first impossible value."""
    for name in ("flip_prob", "color_jitter_prob", "grayscale_prob", "blur_prob"):
        require(0 <= getattr(augment, name) <= 1, f"data.augment.{name}", getattr(augment, name), "0 to 1")
    low, high = augment.crop_scale
    require(0 < low <= high <= 1, "data.augment.crop_scale", augment.crop_scale, "0 < low <= high <= 1")
    *strengths, hue = augment.color_jitter
    accepted = "brightness, contrast, saturation >= 0 and hue 0 to 0.5"
    require(min(strengths) >= 0 and 0 <= hue <= 0.5, "data.augment.color_jitter", augment.color_jitter, accepted)
    check_at_least(0, {"data.augment.randaugment_ops": augment.randaugment_ops})
    check_at_least(1, {"data.augment.views": augment.views})
    magnitude = augment.randaugment_magnitude
    require(0 <= magnitude <= 10, "data.augment.randaugment_magnitude", magnitude, "0 to 10")
