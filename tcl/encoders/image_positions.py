"""Learned positions of image encoders at another image size than that of their weights."""

from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from torch import Tensor, nn

from tcl.encoders.grid_encoder import GridEncoder
from tcl.encoders.image_encoder import ImageEncoder


def interpolate_positions(module: nn.Module, weights: dict[str, Tensor], field: str) -> list[str]:
    """Positions of the image encoders in `module` to the size of its own, in place in the dict `weights`.

    Absolute ones bicubic, as published; tables of relative ones as for BEiT; rotary ones need none. Returns a line for
    each encoder, which names `field`.
    """
    notices = []
    for prefix, part in module.named_modules():
        if isinstance(part, ImageEncoder):
            path = f"{prefix}." if prefix else ""
            name = f"{path}positions" if isinstance(part, GridEncoder) else f"{path}vit.pos_embed"
            own = part.state_dict().get(name.removeprefix(path))
            side = None if own is None else _interpolate_absolute(name, own, part.grid, weights)
            if side is not None:
                rows, columns = part.grid
                notices.append(f"{field}: position embeddings interpolated from {side} x {side} to {rows} x {columns}")
            if _interpolate_relative(path, part, weights):
                notices.append(f"{field}: relative positions interpolated to {part.grid[0]} x {part.grid[1]}")
    return notices


def _interpolate_absolute(name: str, own: Tensor, grid: tuple[int, int], weights: dict[str, Tensor]) -> int | None:
    """The side of the square grid that they had; None: nothing is done."""
    given = weights.get(name)
    if given is None or given.shape == own.shape or given.ndim != 3 or own.ndim != 3:
        return None
    prefixed = own.shape[1] - grid[0] * grid[1]
    side = round(max(0, given.shape[1] - prefixed) ** 0.5)
    if side**2 + prefixed != given.shape[1] or given.shape[2] != own.shape[2]:
        return None
    weights[name] = resample_abs_pos_embed(
        given,
        new_size=list(grid),
        old_size=[side, side],
        num_prefix_tokens=prefixed,
        interpolation="bicubic",
        antialias=False,
    )
    return side


def _interpolate_relative(path: str, encoder: ImageEncoder, weights: dict[str, Tensor]) -> bool:
    """Was there anything to do?"""
    done = False
    for where, part in encoder.named_modules(prefix=path.removesuffix(".")):
        own, name = getattr(part, "relative_position_bias_table", None), f"{where}.relative_position_bias_table"
        given = weights.get(name)
        if own is None or given is None or given.ndim != 2 or given.shape == own.shape:
            continue
        extra = len(own) - (2 * part.window_size[0] - 1) * (2 * part.window_size[1] - 1)
        side = round(max(0, len(given) - extra) ** 0.5)
        if side**2 + extra == len(given) and side % 2 and given.shape[1] == own.shape[1]:
            weights[name] = resize_rel_pos_bias_table(given, part.window_size, own.shape)
            done = True
    return done
