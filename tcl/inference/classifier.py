"""A loaded classifier: which of its classes an image belongs to."""

from collections.abc import Iterable

import torch
from tqdm import tqdm

from tcl.inference.class_guess import ClassGuess, check_k, guesses
from tcl.inference.images import ImageLike, list_images, read_pixels
from tcl.inference.loaded_model import LoadedModel
from tcl.shown import QUIET_SECONDS


class TCLForClassification(LoadedModel):
    """A model fine-tuned on image classification, ready to use; `docs/python.md` shows it.

    Images are what they are to tcl.TCL, and what cannot be used is refused as there.
    """

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return self.student.classes

    @torch.no_grad()
    def classify(self, images: ImageLike | Iterable[ImageLike], k: int = 5) -> list[list[ClassGuess]]:
        """The k (>= 1) classes that each of n images most probably belongs to, best first; all, where there are fewer.

        InputError: k out of range, and what cannot be used.
        """
        listed = list_images(images)
        check_k(k)
        logits = []
        starts = range(0, len(listed), self.batch_size)
        for start in tqdm(starts, desc="classifying", unit="batch", leave=False, delay=QUIET_SECONDS, disable=None):
            pixels = read_pixels(listed[start : start + self.batch_size], self.transform, "images", start)
            with self.hardware.autocast():
                logits.append(self.student.logits(pixels.to(self.hardware.device)))
        return guesses(torch.cat(logits), self.classes, k)
