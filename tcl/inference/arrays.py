"""Images that are already numbers, numpy arrays and torch tensors, to the pixels that a decoded file would have.

A numpy array has its colours last, [H, W, 3], a torch tensor first, [3, H, W]: red, green, blue, as Pillow and
torchvision have them (OpenCV's are blue first). One colour, or no axis for it, is grey; four are RGBA, shown on white.
uint8 goes from 0 to 255, floats from 0 to 1. A fourth axis, before the others, counts images.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tcl.data.images.decode_image import upright_rgb
from tcl.errors import InputError

ArrayLike = np.ndarray | Tensor
COLOURS = (1, 3, 4)


def is_several(array: ArrayLike) -> bool:
    """An array that counts images, or (as numpy's arrays of texts and objects do) holds something else than pixels."""
    return array.ndim == 4 or (isinstance(array, np.ndarray) and array.dtype.kind in "OSU")


def rgb_of(array: ArrayLike, name: str, max_pixels: int) -> np.ndarray:
    """An image [H, W, 3] uint8 RGB. InputError: another shape, type or range than this file's first lines say."""
    tensor = isinstance(array, Tensor)
    shapes = "[3, H, W], or [1, H, W] or [H, W] for grey" if tensor else "[H, W, 3], or [H, W, 1] or [H, W] for grey"
    what = f"{name}: a {'tensor' if tensor else 'numpy array'} of shape {list(array.shape)}"
    colours = array.shape[0 if tensor else 2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or colours not in COLOURS:
        raise InputError(f"{what}; accepted: {shapes}")
    height, width = (array.shape[-2:] if tensor else array.shape[:2]) if array.ndim == 3 else array.shape
    if not 0 < height * width <= max_pixels:
        raise InputError(f"{what}; accepted: 1 to {max_pixels:,} pixels")
    if tensor and (array.layout != torch.strided or array.is_quantized or array.is_meta):
        raise InputError(f"{what} is sparse, quantised or without values; accepted: an ordinary one")
    pixels = _to_uint8(_on_host(array), f"{what} and type {str(array.dtype).removeprefix('torch.')}")
    if tensor and array.ndim == 3:
        pixels = np.moveaxis(pixels, 0, 2)
    if array.ndim == 3 and colours == 1:
        pixels = pixels[:, :, 0]
    return upright_rgb(Image.fromarray(np.ascontiguousarray(pixels)))


def _on_host(array: ArrayLike) -> np.ndarray:
    if not isinstance(array, Tensor):
        return array
    array = array.detach().cpu()
    return (array.float() if array.is_floating_point() else array).numpy()  # numpy knows neither bf16 nor 8-bit floats


def _to_uint8(values: np.ndarray, what: str) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f":
        raise InputError(f"{what}; accepted: uint8 from 0 to 255, or floats from 0 to 1")
    least, most = float(values.min()), float(values.max())
    if not (least >= 0 and most <= 1):  # NaN too
        raise InputError(
            f"{what} goes from {least:.4g} to {most:.4g}; accepted: floats from 0 to 1, not normalised, or uint8 from "
            f"0 to 255"
        )
    return np.rint(values.astype(np.float32) * 255).astype(np.uint8)
