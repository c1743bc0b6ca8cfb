"""The accelerator of a run: devices, processes, precision, and DeepSpeed where the configuration asks for it."""

import json
import os
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    is_tensorboard_available,
    is_wandb_available,
)
from transformers.integrations import unset_hf_deepspeed_config

from tcl.errors import InputError
from tcl.precision import mixed_precision
from tcl.presets import preset_file
from tcl.runs.together import raise_together
from tcl.tasks.task import RunConfig


def build_accelerator(config: RunConfig) -> Accelerator:
    """Call it once, on every process. InputError: DeepSpeed settings that cannot be read, no DeepSpeed or no tracker
    installed."""
    _require_trackers(config.train.trackers)
    on_cpu = not torch.cuda.is_available() and not torch.backends.mps.is_available()
    device = torch.device("cpu" if on_cpu else "cuda" if torch.cuda.is_available() else "mps")
    precision = mixed_precision(config.train.precision, device)
    timeout = InitProcessGroupKwargs(timeout=timedelta(seconds=config.train.process_timeout))
    # Trackers want to hear of a folder now; which it is, `start_trackers` says.
    shared = {"log_with": config.train.trackers or None, "project_dir": config.output_dir}
    plugin = _deepspeed_plugin(config, on_cpu)
    if plugin is None:
        return Accelerator(
            cpu=on_cpu,  # else accelerate does not see that torchrun started several processes without a GPU
            mixed_precision=precision,
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False), timeout],
            **shared,
        )
    _require_whole_towers(config, plugin.zero_stage)
    # DeepSpeed finds the CPU by itself, and a DeepSpeed accelerator that is told of it becomes a plain one.
    accelerator = Accelerator(deepspeed_plugin=plugin, mixed_precision=precision, kwargs_handlers=[timeout], **shared)
    if plugin.zero_stage == 0 and precision == "bf16":  # its bf16 optimiser would hide the fp32 masters
        autocast = {"enabled": True, "dtype": "bfloat16"}
        plugin.deepspeed_config |= {"bf16": {"enabled": False}, "torch_autocast": autocast}
    if on_cpu and torch.distributed.is_initialized():
        # It joins the others in DeepSpeed's name, but counts itself alone.
        for state in (PartialState(), accelerator.state):
            state.num_processes = torch.distributed.get_world_size()
            state.process_index = torch.distributed.get_rank()
            state.local_process_index = int(os.environ["LOCAL_RANK"])
            state.backend = "gloo"
    # Without this transformers would build its models in pieces under ZeRO 3; we build whole ones and shard those.
    unset_hf_deepspeed_config()
    return accelerator


def _require_trackers(names: list[str]) -> None:
    """accelerate itself passes over a tracker that is not installed without a word."""
    for name in names:
        if not {"tensorboard": is_tensorboard_available, "wandb": is_wandb_available}[name]():
            raise InputError(
                f"train.trackers: {name} is not installed here; pip install 'tcl-vlp[trackers]', or take it out"
            )


def _require_whole_towers(config: RunConfig, zero_stage: int) -> None:
    """Under ZeRO 3 a network runs on all processes at the same time, or on none: one that remembers runs when it has
    to."""
    for part in ("image", "text"):
        remember = getattr(config.model, part).remember
        if zero_stage == 3 and remember:
            raise InputError(
                f"model.{part}.remember: {remember} is not possible under ZeRO 3; accepted: 0, or another stage in "
                f"train.deepspeed"
            )


def start_trackers(accelerator: Accelerator, config: RunConfig) -> None:
    """Those of train.trackers. Called on every process. InputError on all of them: one does not start."""
    problem = None
    folders = accelerator.project_configuration
    folders.project_dir = folders.logging_dir = config.output_dir
    try:
        if config.train.trackers:
            accelerator.init_trackers("tcl")
    except Exception as error:  # each raises errors of its own: no login, no network, no disk
        said = " ".join(str(error).split())[:200] or type(error).__name__
        problem = f"train.trackers: {', '.join(config.train.trackers)} cannot be started ({said}); mend or omit it"
    raise_together(problem)


def _deepspeed_plugin(config: RunConfig, on_cpu: bool):
    """accelerate's plugin for train.deepspeed or for what `accelerate launch` was configured with; None: plain DDP."""
    path, launched = config.train.deepspeed, os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    if path is None and not launched:
        return None
    settings = _read_settings(_settings_file(path)) if path else None
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed  # noqa: F401
        from accelerate.utils import DeepSpeedPlugin
    except ImportError as error:
        raise InputError(
            f"train.deepspeed: {path or 'from accelerate'}, but DeepSpeed cannot be imported ({error}); "
            f"pip install 'tcl-vlp[deepspeed]'"
        ) from error
    plugin = DeepSpeedPlugin(hf_ds_config=settings)
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": config.train.batch_size,
        "gradient_accumulation_steps": 1,  # windows are the training step's: it weights the passes and ends the window
        "gradient_clipping": config.optim.clip_grad_norm,
        "steps_per_print": 10**9,
    }
    plugin.deepspeed_config.pop("train_batch_size", None)
    return plugin


def _settings_file(said: str) -> Path:
    """What is neither a path nor a file is the name of a preset."""
    is_path = said.endswith(".json") or Path(said).name != said or Path(said).exists()
    return Path(said) if is_path else preset_file("deepspeed", said, "train.deepspeed")


def _read_settings(path: Path) -> dict:
    try:
        settings = json.loads(path.read_text())
    except OSError as error:
        raise InputError(
            f"train.deepspeed: {path} cannot be read ({error.strerror}); try zero2, which ships with the package"
        ) from error
    except ValueError as error:
        raise InputError(f"train.deepspeed: {path} is not JSON ({error})") from error
    if not isinstance(settings, dict) or "zero_optimization" not in settings:
        raise InputError(
            f'train.deepspeed: {path} has no "zero_optimization"; start from one of those in tcl/presets/deepspeed'
        )
    return settings
