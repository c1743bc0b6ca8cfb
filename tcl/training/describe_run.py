"""What a run is, as its first lines print it: processes, devices, sizes, and memory per device by part."""

from dataclasses import dataclass

from accelerate import Accelerator
from torch import nn

from tcl.models.queue import FeatureQueue
from tcl.tasks.task import RunConfig, Task


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


def describe_run(config: RunConfig, accelerator: Accelerator, task: Task) -> list[str]:
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
