"""Intra-modal contrast: a sample finds its own other view among the batch and the queue of the same modality.

TCL section 3.2 (equations 4 and 5). The other view comes from the teacher: another augmentation of the image, another
dropout of the text.
"""

from torch import Tensor

from tcl.losses.contrast import Candidates, contrast


def intra_modal_contrast(features: Tensor, positives: Tensor, candidates: Candidates, temperature: Tensor) -> Tensor:
    """InfoNCE of `features` [B, D] among all candidates of the same modality, mean over B.

    positives [B, D]: the teacher's view of each sample, or the mean of several that are right; temperature scalar > 0.
    """
    return contrast(features, positives, candidates, temperature)
