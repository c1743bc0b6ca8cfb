"""What fine-tuning starts from: a run of ours, one of its checkpoints, an export, a weights file, published weights."""

import os
import warnings
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor, nn

from tcl.checkpoints import run_folder
from tcl.checkpoints.checkpoint_store import newest_intact, pointed_checkpoint
from tcl.checkpoints.export_files import TEACHER, WEIGHTS, check_export
from tcl.checkpoints.export_format import ExportConfig, is_export, read_config
from tcl.checkpoints.manifest import MANIFEST, verify, verify_file
from tcl.checkpoints.published import from_published
from tcl.checkpoints.run_folder import MODEL, read_run_model, run_folder_of
from tcl.checkpoints.weights_file import find_weights, read_names, read_weights
from tcl.config.model import ImageEncoderConfig
from tcl.encoders.image_positions import interpolate_positions
from tcl.errors import InputError
from tcl.losses.learned import is_loss_parameter

PUBLISHED_MEAN = (0.48145466, 0.4578275, 0.40821073)
PUBLISHED_STD = (0.26862954, 0.26130258, 0.27577711)
"""How the 2022 release (TCL and ALBEF) normalises images, whatever their ViT was trained with before."""
ACCEPTED = "a run's output_dir, a step_* folder, an export, a student.safetensors, or a published .pth"


def initial_weights(path: str) -> dict[str, Tensor]:
    """The student's weights of `path` (config field init), by our names. InputError: there are none, or damaged."""
    file = Path(path)
    if pointed_checkpoint(file) is not None or not os.path.isfile(file):
        folder = weights_folder(path, "init", ACCEPTED)
        export = is_export(folder)
        if export:
            check_export(folder, "init")
        file = (find_weights(folder) if export else None) or folder / "student.safetensors"
    elif file.name in ("student.safetensors", WEIGHTS) and (file.parent / MANIFEST).is_file() and verify_file(file):
        raise InputError(f"init: {file} is damaged: {verify_file(file)}; use another checkpoint")
    weights = read_weights(file, "init", ACCEPTED)
    return from_published(weights).student if _is_published(weights) else weights


def initial_teacher(path: str) -> dict[str, Tensor]:
    """The weights of the momentum teacher of `path` (config field init), by our names; none where it has none.
    InputError: no weights at all, or damaged."""
    file = Path(path)
    if pointed_checkpoint(file) is None and os.path.isfile(file):
        weights = read_weights(file, "init", ACCEPTED)
        return from_published(weights).teacher if _is_published(weights) else {}
    folder = weights_folder(path, "init", ACCEPTED)
    file = folder / TEACHER
    if not file.is_file():
        return {}
    if is_export(folder):
        check_export(folder, "init", with_teacher=True)
    return read_weights(file, "init", ACCEPTED)


def weights_folder(path: str, field: str, accepted: str) -> Path:
    """The folder in which the weights of `path` lie: an export, a step_* folder, the one that `latest` or `best`
    names, or the newest intact one of a run; a warning names a newer one that is damaged.

    InputError, naming `field` and what is `accepted`: there are none, or they are damaged.
    """
    place = pointed_checkpoint(Path(path)) or Path(path)
    if os.path.isdir(place / "checkpoints"):
        intact, passed_over = newest_intact(place / "checkpoints")
        if intact is None:
            raise InputError(f"{field}: {path} has no intact checkpoint; accepted: {accepted}")
        if passed_over:
            warnings.warn(f"{field}: {passed_over[0]}; {intact.name} is taken instead", stacklevel=3)
        return intact
    if is_export(place):
        return place
    if not os.path.isfile(place / "student.safetensors"):
        raise InputError(f"{field}: {path!r} holds no weights; accepted: {accepted}")
    if (place / MANIFEST).is_file() and (wrong := verify(place)):
        raise InputError(f"{field}: {place} is damaged: {wrong}; use another checkpoint")
    return place


def normalisation_of(image: ImageEncoderConfig, init: str | None) -> ImageEncoderConfig:
    """`image` with the published mean and std where `init` is a published file and no others are given."""
    if init is None or not os.path.isfile(init) or pointed_checkpoint(Path(init)) is not None:
        return image
    if init.endswith(".safetensors") and not _is_published(read_names(Path(init), "init", ACCEPTED)):
        return image
    return replace(image, mean=image.mean or PUBLISHED_MEAN, std=image.std or PUBLISHED_STD)


def _is_published(names: Iterable[str]) -> bool:
    return not any(name.startswith(("encoders.", "networks.")) for name in names)


def model_of_run(path: str, *, names_text_encoder: bool = False) -> dict | None:
    """The `model` section with which the weights at `path` were trained, as --config takes it; None: unknown.

    Names and sizes only: its own pre-trained weights are not loaded again, and the tokenizer is the run's (or the
    export's) copy. names_text_encoder: as `tcl.checkpoints.run_folder.model_of_run`.
    """
    if is_export(Path(path)):
        return asdict(read_config(Path(path)).model)
    run = run_folder_of(path)
    return None if run is None else asdict(run_folder.model_of_run(run, names_text_encoder=names_text_encoder))


def description_of(path: str) -> ExportConfig | None:
    """What the export or run at `path` says of its weights; None: nothing does, or it is a run of a former version.

    InputError: not what this version would have written.
    """
    if is_export(Path(path)):
        return read_config(Path(path))
    run = run_folder_of(path)
    return None if run is None or not (run / MODEL).is_file() else read_run_model(run)


def fill(
    module: nn.Module,
    weights: dict[str, Tensor],
    path: str,
    *,
    may_lack: tuple[str, ...] = (),
    not_needed: tuple[str, ...] = (),
    field: str = "init",
) -> list[str]:
    """Load `weights` (of `path`) into `module`; position embeddings of another image size are interpolated.

    Prefixes of names: may_lack, parameters that stay as they are where the weights lack them; not_needed, weights
    that the module has no place for; what losses learn may be missing or too many anyway. Returns lines for the
    person watching. InputError: other names or sizes that differ, which it lists; nothing is loaded then. `field` is
    the config field or option that the lines name.
    """
    own = module.state_dict()
    weights = {
        name: tensor
        for name, tensor in weights.items()
        if name in own or not (name.startswith(not_needed) or is_loss_parameter(name))
    }
    surplus = [name for name in weights if name not in own]
    notices = interpolate_positions(module, weights, field)
    missing = [name for name in own if not (name in weights or name.startswith(may_lack) or is_loss_parameter(name))]
    differing = [
        f"{name} is {tuple(tensor.shape)}, here {tuple(own[name].shape)}"
        for name, tensor in weights.items()
        if name in own and tensor.shape != own[name].shape
    ]
    differing += [
        f"{name} is {tensor.dtype}, here {own[name].dtype}"
        for name, tensor in weights.items()
        if name in own and tensor.is_floating_point() != own[name].is_floating_point()
    ]
    differing += [f"{name} is not there" for name in missing] + [f"{name} has no place here" for name in surplus]
    if differing:
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        raise InputError(
            f"{field}: {path} is of another architecture: {'; '.join(differing[:5])}{more}; give the `model` section "
            f"with which it was trained"
        )
    lacking = [
        prefix.removesuffix(".") for prefix in may_lack if any(n.startswith(prefix) for n in own.keys() - weights)
    ]
    if lacking:
        notices.append(f"{field}: {path} has no weights for {', '.join(lacking)}: they start random")
    module.load_state_dict(own | weights)
    return notices
