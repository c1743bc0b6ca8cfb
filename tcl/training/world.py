"""The world of a run, as its first lines print it: processes, devices, sizes, and memory per device by part."""

from dataclasses import dataclass

from accelerate import Accelerator
from torch import nn

from tcl.config.tcl_objective import ObjectiveConfig
from tcl.models.encoders import Encoders
from tcl.models.queue import FeatureQueue
from tcl.objectives.answering import VQANetworks
from tcl.tasks.task import RunConfig, Task

SAVED_PER_TOKEN = 17
"""Activations that a transformer layer saves for its backward pass, in widths per token (34 bytes a width in 16 bit,
Korthikanti et al. 2022, table 2, without the attention scores, which SDPA does not keep)."""
SAVED_BY_FUSION_LAYER = SAVED_PER_TOKEN + 6
"""With those of its cross-attention: query, context, output, residual and norm."""


@dataclass
class Memory:
    """Estimated bytes on one device, by part; `activations` at the end of the student's forward pass."""

    weights: float
    gradients: float
    optimizer: float
    teacher: float
    queues: float
    activations: float

    @property
    def total(self) -> float:
        return sum(vars(self).values())


def estimate_memory(
    student: nn.Module,
    teacher: nn.Module,
    *,
    processes: int,
    zero_stage: int | None,
    bf16: bool,
    activations: float,
) -> Memory:
    """Per device, for whole modules `student` and `teacher`. zero_stage None: one process or DDP.

    Offloaded state counts as if it were on the device. Formulas: docs/scaling.md.
    """
    total = sum(p.numel() for p in student.parameters())
    trained = sum(p.numel() for p in student.parameters() if p.requires_grad)
    stage = zero_stage or 0
    low = 2 if bf16 and zero_stage is not None else 4  # autocast leaves weights and gradients in fp32
    masters = 4 * trained if low == 2 or stage > 0 else 0
    return Memory(
        weights=low * total / (processes if stage == 3 else 1),
        gradients=low * trained / (processes if stage >= 2 else 1),
        optimizer=(8 * trained + masters) / (processes if stage >= 1 else 1),
        teacher=4 * sum(p.numel() for p in teacher.parameters()),
        queues=4 * sum(module.features.numel() for module in teacher.modules() if isinstance(module, FeatureQueue)),
        activations=activations,
    )


def pair_activation_bytes(
    config: RunConfig, encoders: Encoders, objective: ObjectiveConfig, *, processes: int, bf16: bool
) -> float:
    """What the student's forward pass over config.train.batch_size pairs keeps, per device."""
    B, L = config.train.batch_size, config.data.max_tokens
    candidates = B * processes if objective.global_negatives else B
    masked = 1 if objective.mlm_weight > 0 else 0
    layers = _layers(encoders, B, B * L, text_passes=1 + masked, fusion_passes=3 + masked)
    keys_values = _keys_values(encoders, images=2 * B)  # of each image, and of each drawn as a negative
    logits = B * candidates * (L - 1 + config.model.lmi_regions**2)
    vocabulary = masked * B * L * objective.mlm_probability * encoders.text_encoder.word_embeddings.num_embeddings
    return _kept(layers, keys_values, logits + vocabulary, config.train.activation_checkpointing, bf16)


def question_activation_bytes(config: RunConfig, networks: VQANetworks, answer_tokens: int, *, bf16: bool) -> float:
    """The same over config.train.batch_size questions, with two answers of answer_tokens each."""
    B = config.train.batch_size
    layers = _layers(networks, B, B * config.data.max_tokens, text_passes=1, fusion_passes=1)
    answers = 2 * B * answer_tokens
    decoder: Layers = [(len(networks.decoder.layers), answers * networks.text_encoder.width, SAVED_BY_FUSION_LAYER)]
    vocabulary = answers * networks.text_encoder.word_embeddings.num_embeddings
    keys_values = _keys_values(networks, images=B)
    kept = _kept(layers, keys_values, vocabulary, config.train.activation_checkpointing, bf16)
    return kept + _kept(decoder, 0, 0, checkpointing=False, bf16=bf16)


Layers = list[tuple[int, float, int]]
"""(how many layers, their tokens times their width, what each saves in multiples of that)."""


def _layers(
    networks: Encoders | VQANetworks, images: int, text_tokens: int, *, text_passes: int, fusion_passes: int
) -> Layers:
    image_encoder, text_encoder = networks.image_encoder, networks.text_encoder
    patches = image_encoder.grid[0] * image_encoder.grid[1]
    text = text_tokens * text_encoder.width
    return [
        (len(image_encoder.vit.blocks), images * (1 + patches) * image_encoder.width, SAVED_PER_TOKEN),
        (len(text_encoder.bert.encoder.layer), text_passes * text, SAVED_PER_TOKEN),
        (len(networks.fusion_encoder.layers), fusion_passes * text, SAVED_BY_FUSION_LAYER),
    ]


def _keys_values(networks: Encoders | VQANetworks, images: int) -> float:
    """Elements of the keys and values of `images` in all fusion layers, which checkpointing keeps as well."""
    rows, columns = networks.image_encoder.grid
    return 2 * len(networks.fusion_encoder.layers) * images * (1 + rows * columns) * networks.text_encoder.width


def _kept(layers: Layers, keys_values: float, logits: float, checkpointing: bool, bf16: bool) -> float:
    if checkpointing:  # each layer's input, and one layer as it is computed again
        saved = sum(count * size for count, size, _ in layers) + max(size * kept for _, size, kept in layers)
    else:
        saved = sum(count * size * kept for count, size, kept in layers)
    return (2 if bf16 else 4) * (saved + keys_values) + 4 * 3 * logits  # fp32: logits, their softmax, its gradient


def describe_world(config: RunConfig, accelerator: Accelerator, task: Task) -> list[str]:
    """Lines for the person watching; the student of `task` is whole, not sharded yet."""
    student, teacher, bf16 = task.student, task.teacher, accelerator.mixed_precision == "bf16"
    plugin = accelerator.state.deepspeed_plugin
    stage = None if plugin is None else plugin.zero_stage
    processes = accelerator.num_processes
    sharding = "one process" if processes == 1 else "DDP"
    batch, passes = config.train.batch_size, config.train.accumulate_steps
    memory = estimate_memory(
        student, teacher, processes=processes, zero_stage=stage, bf16=bf16, activations=task.activation_bytes
    )
    trained = sum(p.numel() for p in student.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in student.parameters() if not p.requires_grad)
    copies = sum(p.numel() for p in teacher.parameters())
    parts = ", ".join(f"{name} {_size(value)}" for name, value in vars(memory).items())
    return [
        f"world: {processes} process(es) on {accelerator.device.type}, {'bf16' if bf16 else 'fp32'}, "
        f"{sharding if stage is None else f'DeepSpeed ZeRO {stage}'}; global batch {batch * passes * processes} = "
        f"{batch} x {passes} passes x {processes} processes",
        f"parameters: {trained / 1e6:.1f}M trained, {copies / 1e6:.1f}M teacher, {frozen / 1e6:.1f}M frozen",
        f"memory per device (estimate): {_size(memory.total)} = {parts}",
    ]


def _size(value: float) -> str:
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.1f} MiB"
