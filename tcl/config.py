"""Every option of a pre-training run, and the sections that fine-tuning (tcl.tasks) shares with it: typed, documented.

Read from YAML and overridden on the command line, e.g. `--config run.yaml --train.steps 100` (tcl.command_line);
impossible values are refused by tcl.config_checks. The docstring under a field says what it is, its unit and range, and
why the default is what it is.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

FREE = {"when_resumed": "free"}
"""Metadata of an option, or of a section, that changes nothing in what a run's weights mean: a run goes on with another
value of it. Every other option that differs needs train.resume to be given (`tcl.training.resume`)."""


@dataclass
class ImageEncoderConfig:
    """The vision transformer."""

    name: str = "vit_base_patch16_224"
    """Any timm ViT with a [CLS] token (vit_*, deit_*, deit3_*, eva02_*). The paper uses ViT-B/16."""
    pretrained: bool | str = field(default=False, metadata=FREE)
    """True: timm's weights of that name from the hub; a path: weights from that file; False: random."""
    image_size: int = 256
    """Side of the square input in pixels, a multiple of the patch size. 256 in the paper's pre-training."""
    mean: tuple[float, float, float] | None = None
    """Of pixels in 0..1, per channel, subtracted from every image. None: what timm names for the encoder, and what the
    published code used (CLIP's) where fine-tuning starts from a published .pth."""
    std: tuple[float, float, float] | None = None
    """By which images are divided then; None as for mean."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Arguments passed on to timm.create_model, e.g. {embed_dim: 192, depth: 6, num_heads: 3, patch_size: 8}."""


@dataclass
class TextEncoderConfig:
    """The BERT-like encoder: its lower layers read text, its upper layers become the fusion encoder."""

    name: str = "bert"
    """A transformers model type (bert, roberta, ...: that architecture at its default size), a hub id such as
    bert-base-uncased, or a local folder."""
    pretrained: bool | str = field(default=False, metadata=FREE)
    """True: weights from `name`; a path: weights from that folder; False: random. Only a hub id or folder has
    weights to load."""
    tokenizer: str = field(default="bert-base-uncased", metadata=FREE)
    """Hub id or local folder of the tokenizer. `tcl tokenizer` makes one from your own captions. A run goes on with the
    tokenizer of another place, but not with other words, unless train.resume is given."""
    fusion_layers: int | None = None
    """How many upper layers become the fusion encoder, 1 to layers - 1. Default: half of them, as in the paper."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Arguments for the transformers config, e.g. {hidden_size: 192, num_hidden_layers: 8}. vocab_size is taken from
    the tokenizer unless the weights are pre-trained."""


@dataclass
class ModelConfig:
    """The networks: image encoder, text encoder, fusion encoder, projections."""

    image: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    embed_dim: int = 256
    """Width of the shared image-text space, >= 1. 256 in the paper."""
    lmi_regions: int = 4
    """Image patches are pooled to lmi_regions x lmi_regions regions before LMI, >= 1. 4 in the paper at 256 px."""


@dataclass
class ObjectiveConfig:
    """The five losses and the momentum teacher (TCL sections 3.1 to 3.4). A weight of 0 leaves a loss out."""

    cma_weight: float = 1.0
    """Weight of cross-modal alignment (image-text contrast), >= 0. An ablation is a weight, not a fork."""
    imc_weight: float = 1.0
    """Weight of intra-modal contrast, >= 0."""
    lmi_weight: float = 1.0
    """Weight of local mutual information (global against local), >= 0."""
    itm_weight: float = 1.0
    """Weight of image-text matching, >= 0. Needs a batch of at least 2: a negative comes from another pair."""
    mlm_weight: float = 1.0
    """Weight of masked language modelling, >= 0."""
    temperature: float = 0.07
    """Start of the learned temperature, 0.001 to 0.5 (it is clamped to that range before every use)."""
    queue_size: int = 65536
    """Momentum features kept as extra negatives, >= 1. Any size works with any batch size: the queue wraps."""
    momentum: float = 0.995
    """Of the teacher's moving average, per optimiser step, 0 to 1. 0.995 in the paper."""
    alpha: float = 0.4
    """Share of the teacher's soft targets in CMA and MLM, 0 to 1."""
    alpha_ramp_epochs: float = 1.0
    """alpha grows linearly from 0 over this many epochs, >= 0: the teacher knows nothing at first."""
    global_negatives: bool = False
    """False, as published: each process contrasts its own batch (and the queue), and ITM draws negatives from it.
    True: CMA, IMC, LMI and ITM see the batches of all processes, as one process with the whole batch would."""
    mlm_probability: float = 0.15
    """Share of tokens masked for MLM, 0 to 1 (neither [CLS] nor padding is ever masked)."""


@dataclass
class SourceConfig:
    """One set of webdataset shards."""

    shards: str = field(metadata=FREE)
    """A local glob (cc3m/*.tar), a brace range (cc3m/{000000..000331}.tar), or a URL (https, s3, gs, pipe:) with
    brace ranges."""
    weight: float | None = None
    """Share of the drawn samples relative to the other sources, > 0. Give it for all sources or for none; without
    weights all shards form one pool and every sample is seen once an epoch."""


@dataclass
class AugmentConfig:
    """How each of the two views of a training image is made. Defaults are the paper's."""

    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Smallest and largest share of the area that a random resized crop keeps, 0 < low <= high <= 1."""
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
    on_device: bool = field(default=False, metadata=FREE)
    """Take all steps but the crop on the training device, in batches, instead of in the workers: for a GPU that few
    CPU cores have to feed. Views are the same but for rounding (`tcl.data.batched_operations`)."""


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


@dataclass
class OptimConfig:
    """AdamW with linear warm-up and cosine decay, both along the run's length as `train` gives it."""

    lr: float = 1e-4
    """Peak learning rate, > 0."""
    warmup_lr: float = 1e-5
    """Learning rate of the first step, 0 to lr."""
    min_lr: float = 1e-5
    """Learning rate of the last step, 0 to lr."""
    warmup_steps: int = 2000
    """Optimiser steps of linear warm-up, >= 0, of the batch with which the run began. 2,000 in the published code
    (20 x 100 iterations)."""
    weight_decay: float = 0.02
    """AdamW's decay, >= 0; never applied to biases, norms and the temperature."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's moment decays, each 0 to 1 (1 excluded)."""
    eps: float = 1e-8
    """AdamW's epsilon, > 0."""
    clip_grad_norm: float = 1.0
    """Gradients are scaled down to this global norm, > 0."""


@dataclass
class TrainConfig:
    """Length, batch, precision, and what is written when."""

    batch_size: int = 64
    """Pairs per process and forward pass, >= 1 (>= 2 with ITM)."""
    accumulate_steps: int = 1
    """Forward passes per optimiser step, >= 1."""
    epochs: int = 30
    """Passes over the data, >= 1; ignored where steps is given. The run ends with the first step at which it has been
    given epochs times as many samples as the data hold, whatever batch, accumulation and number of processes it had on
    the way: the last step may reach into one more pass. Learning rate, alpha and the epoch go by samples, too."""
    steps: int | None = None
    """Optimiser steps, >= 1, instead of epochs; the learning rate goes by steps then."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the student's and teacher's forward pass. auto: bf16 autocast where the hardware multiplies bf16 fast, else
    fp32. Losses, teacher weights and optimiser state are always fp32."""
    deepspeed: str | None = None
    """A DeepSpeed configuration to shard the training with: a JSON file, or the name of one that ships with the package
    (zero1, zero2, zero3, zero2_offload, zero3_offload); None: plain DDP, or what `accelerate launch --config_file`
    chose. Batch, accumulation and clipping are taken from this configuration."""
    process_timeout: int = 1800
    """Seconds after which a process that waits for another one gives up, >= 1. Longer than the slowest evaluation."""
    activation_checkpointing: bool = False
    """Recompute image-encoder, text and fusion layers in the backward pass: less memory, about a third more time."""
    compile: bool = False
    """torch.compile each layer: slow to start, pays on long GPU runs."""
    max_nonfinite_steps: int = 10
    """A step whose loss or gradient is not finite is skipped; the run stops after this many in a row, >= 1."""
    log_every: int = 10
    """Optimiser steps between rows of metrics.jsonl, >= 1."""
    save_every: int = 5000
    """Optimiser steps between checkpoints, >= 1; the last step always writes one."""
    keep_checkpoints: int = 3
    """Newest checkpoints kept, >= 1, beside the one with the best evaluation."""
    save_asynchronously: bool = False
    """Write checkpoints in the background: training goes on meanwhile, at the price of a second copy of the run's
    state in the host's memory."""
    resume: str | None = None
    """Not given: continue from the newest checkpoint in output_dir if there is one, but not where options that change
    what the weights mean are others than the run's; auto: whatever they are; none: refuse to start where a checkpoint
    is; or the path of a checkpoint."""
    trackers: list[Literal["tensorboard", "wandb"]] = field(default_factory=list)
    """Experiment trackers beside metrics.jsonl, through accelerate."""


@dataclass
class EvalConfig:
    """Retrieval on data.val, from the embeddings and re-ranked by ITM."""

    every: int = 1000
    """Optimiser steps between evaluations, >= 1; the last step always evaluates."""
    batch_size: int = 64
    """Images or texts per forward pass, >= 1."""
    max_images: int | None = 1000
    """Evaluate on the first this many images, >= 1; None: on all."""
    rerank_k: int = 16
    """Candidates per query that ITM re-ranks, >= 0 (0: embeddings only)."""
    pass_tokens: int = 8192
    """Text tokens in one pass of the re-ranking, padding included, >= 1: bounds its memory."""
    image_cache_gib: float = 4.0
    """Image tokens kept in memory between the two stages, per process, >= 0; images beyond are encoded again."""


@dataclass
class PretrainConfig:
    """A pre-training run."""

    output_dir: str = field(default="runs/pretrain", metadata=FREE)
    """Where metrics.jsonl, config.yaml and checkpoints/ go."""
    seed: int = 0
    """Of weights, queues, shuffling, augmentation, masking and dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig, metadata=FREE)
    eval: EvalConfig = field(default_factory=EvalConfig, metadata=FREE)
