"""The images of a batch: as the loader gives them, and as encoders take them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from tcl.data.images.batched_operations import take_steps
from tcl.data.images.view_step import Step


@dataclass
class Images:
    """One or two augmented views of B images."""

    view: Tensor
    """[B, 3, H, W]: uint8 from the loader, float as encoders take it (`prepare_images`)."""
    other_view: Tensor | None = None
    """[B, 3, H, W], for the teacher; None where the objective has none."""
    steps: list[list[Step]] = field(default_factory=list)
    """[B], what is left to do to each view, or none at all."""
    other_steps: list[list[Step]] = field(default_factory=list)
    """The same of the other views."""

    def describe(self) -> str:
        """Their shape."""
        return str(tuple(self.view.shape))


def prepare_images(images: Images, prepare: Callable[[Tensor], Tensor]) -> Images:
    """From uint8 with steps left to what an encoder takes, on the device that they are on: the steps taken, then
    `prepare`, that of the encoder."""
    other = images.other_view
    return Images(
        prepare(take_steps(images.view, images.steps)),
        None if other is None else prepare(take_steps(other, images.other_steps)),
    )
