"""The steps of all views of a batch, on the training device: `image_operations` for many images at a time.

Images are [n, 3, H, W] uint8 RGB in, new ones out; a value comes as [n, 1, 1, 1] float, one for each image. Definitions
are those of image_operations; results differ by rounding, an operation's by a level, hue's by up to six, and what
autocontrast and equalize make of such a difference can be more.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tcl.data.images import image_operations as op
from tcl.data.images.image_operations import GREY, LUMA
from tcl.data.images.view_step import Step

AT_ONCE = 128
"""Images that an operation takes at a time: 100 MB as floats at 256 pixels, of which hue holds ten at once."""


def take_steps(images: Tensor, steps: Sequence[Sequence[Step]]) -> Tensor:
    """images [B, 3, H, W] uint8, steps [B] of each image, or none at all -> images after them, in the order of each.

    An operation runs on all images that it is the next step of; the one that most wait for goes first.
    """
    if not any(steps):
        return images
    images = images.clone()
    taken = [0] * len(steps)
    while waiting := _next_operations(steps, taken):
        operation, rows = max(waiting.items(), key=lambda item: len(item[1]))
        for some in (rows[i : i + AT_ONCE] for i in range(0, len(rows), AT_ONCE)):
            values = torch.tensor([steps[row][taken[row]].values for row in some], device=images.device)
            index = torch.tensor(some, device=images.device)
            images[index] = OPERATIONS[operation](images[index], *values.float().view(len(some), -1, 1, 1, 1).unbind(1))
        for row in rows:
            taken[row] += 1
    return images


def _next_operations(steps: Sequence[Sequence[Step]], taken: list[int]) -> dict[Callable, list[int]]:
    """The images that wait for each operation."""
    waiting = defaultdict(list)
    for row, (own, done) in enumerate(zip(steps, taken, strict=True)):
        if done < len(own):
            waiting[own[done].operation].append(row)
    return waiting


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    return _cut(images * factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = _luma(images).round().mean(dim=(1, 2, 3), keepdim=True).round()
    return _cut(mean + factor * (images - mean))


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _round(_luma(images).lerp(images.float(), factor))


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """In a hexagon of hues, red at 0, green at 2, blue at 4."""
    red, green, blue = images.float().split(1, dim=1)
    high, low = images.float().amax(dim=1, keepdim=True), images.float().amin(dim=1, keepdim=True)
    chroma = high - low
    place = torch.where(
        high == red, green - blue, torch.where(high == green, blue - red + 2 * chroma, red - green + 4 * chroma)
    )
    place = place / chroma.clamp(min=1) + 6 * turn
    # A channel is at its lowest within 1 of the hue opposite to its own, and at its highest from 2 away.
    distance = (place + torch.tensor([5.0, 3.0, 1.0], device=images.device).view(3, 1, 1)) % 6
    return _round(high - chroma * torch.minimum(distance, 4 - distance).clamp(0, 1))


def grayscale(images: Tensor) -> Tensor:
    return _round(_luma(images)).expand_as(images)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    # OpenCV's kernel of 8-bit images: three sigma to each side, rounded to an odd number of pixels.
    radius = (6 * sigma + 1).round().div(2, rounding_mode="floor")
    most = int(radius.max())
    offsets = torch.arange(-most, most + 1, device=images.device)
    kernel = torch.where(offsets.abs() <= radius, (-(offsets**2) / (2 * sigma**2)).exp(), 0)
    kernel = (kernel / kernel.sum(dim=-1, keepdim=True)).repeat_interleave(3, dim=0)  # [n * 3, 1, 1, 2 * most + 1]
    planes = F.pad(images.float(), (most, most, most, most), mode="replicate").flatten(0, 1)[None]
    planes = F.conv2d(planes, kernel, groups=len(kernel))
    return _round(F.conv2d(planes, kernel.transpose(2, 3), groups=len(kernel))[0].view_as(images))


def flip(images: Tensor) -> Tensor:
    return images.flip(-1)


def identity(images: Tensor) -> Tensor:
    return images


def autocontrast(images: Tensor) -> Tensor:
    low = images.amin(dim=(2, 3), keepdim=True).float()
    width = images.amax(dim=(2, 3), keepdim=True) - low
    return torch.where(width > 0, _cut((images - low) * (255 / width)), images)


def equalize(images: Tensor) -> Tensor:
    levels = images.flatten(2).long()
    counts = levels.new_zeros(*levels.shape[:2], 256).scatter_add_(2, levels, torch.ones_like(levels))
    places = torch.arange(256, device=images.device)
    used_last = (places * (counts > 0)).argmax(dim=-1, keepdim=True)
    step = (levels.shape[-1] - counts.gather(2, used_last)) // 255
    below = counts.cumsum(dim=-1) - counts
    table = torch.where(step > 0, ((step // 2 + below) // step.clamp(min=1)).clamp(0, 255), places)
    return table.gather(2, levels).view_as(images).to(torch.uint8)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    share = (1 - factor) * 9 / 13
    smooth = F.avg_pool2d(images.float(), 3, stride=1).round()
    sharp = images.clone()
    sharp[..., 1:-1, 1:-1] = _round(images[..., 1:-1, 1:-1].float().lerp(smooth, share))
    return sharp


def shear_x(images: Tensor, slope: Tensor) -> Tensor:
    return _warp(images, ((1, -slope, 0), (0, 1, 0)))


def shear_y(images: Tensor, slope: Tensor) -> Tensor:
    return _warp(images, ((1, 0, 0), (-slope, 1, 0)))


def translate_x(images: Tensor, shift: Tensor) -> Tensor:
    return _warp(images, ((1, 0, -shift), (0, 1, 0)))


def translate_y(images: Tensor, shift: Tensor) -> Tensor:
    return _warp(images, ((1, 0, 0), (0, 1, -shift)))


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    x, y = images.shape[3] / 2, images.shape[2] / 2
    return _warp(images, ((cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y)))


def _warp(images: Tensor, output_to_input: tuple[tuple[Tensor | float, ...], ...]) -> Tensor:
    """Coordinates in pixels, (0, 0) the corner of the first one."""
    height, width = images.shape[2:]
    sides = torch.tensor([width, height, 1.0], device=images.device)
    matrix = torch.empty(len(images), 2, 3, device=images.device)
    for i, row in enumerate(output_to_input):
        for j, value in enumerate(row):
            matrix[:, i, j] = value.flatten() if isinstance(value, Tensor) else value
    # Torch's coordinates run from -1 to 1 over the image: pixels = (coordinate + 1) * side / 2.
    matrix = matrix * sides / sides[:2, None] * torch.tensor([1, 1, 2.0], device=images.device)
    matrix[..., 2] += matrix[..., :2].sum(dim=-1) - 1
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    grey = torch.tensor(GREY, device=images.device).view(3, 1, 1)
    return _round(F.grid_sample(images - grey.float(), grid, align_corners=False) + grey)


def _luma(images: Tensor) -> Tensor:
    """[n, 1, H, W] float."""
    return (images * torch.tensor(LUMA, device=images.device).view(3, 1, 1)).sum(dim=1, keepdim=True)


def _cut(levels: Tensor) -> Tensor:
    return levels.clamp(0, 255).to(torch.uint8)


def _round(levels: Tensor) -> Tensor:
    return _cut(levels.round())


OPERATIONS: dict[Callable, Callable[..., Tensor]] = {
    op.brightness: brightness,
    op.contrast: contrast,
    op.saturation: saturation,
    op.hue: hue,
    op.grayscale: grayscale,
    op.blur: blur,
    op.flip: flip,
    op.identity: identity,
    op.autocontrast: autocontrast,
    op.equalize: equalize,
    op.sharpness: sharpness,
    op.shear_x: shear_x,
    op.shear_y: shear_y,
    op.translate_x: translate_x,
    op.translate_y: translate_y,
    op.rotate: rotate,
}
"""For each operation on one image, the same on many."""
