"""Answers of a VQA model to all questions of a set."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from tcl.data.sets.question_set import QuestionSet
from tcl.evaluation.decoded_images import decoded_batches
from tcl.models.fusion_encoder import KeysValues
from tcl.objectives.question_answering import VQANetworks


@torch.no_grad()
def answer_questions(
    accelerator: Accelerator,
    networks: VQANetworks,
    questions: QuestionSet,
    tokenize: Callable[[Sequence[str]], tuple[Tensor, Tensor]],
    transform: Callable[[np.ndarray], Tensor],
    answer: Callable[[list[KeysValues]], list[str]],
    *,
    batch_size: int,
    max_pixels: int,
    workers: int,
) -> list[str]:
    """An answer to each question, in their order. Called on every process, which share the work; all get the result.

    answer: what the decoder sees of some questions -> their answers. batch_size (>= 1) questions are answered at a
    time, those about one image together: it is encoded once. `workers` (>= 0) processes decode images.
    """
    was_training = networks.training
    networks.eval()
    device, rank, processes = accelerator.device, accelerator.process_index, accelerator.num_processes
    image_of = questions.image_of_question
    by_image = sorted(range(len(image_of)), key=lambda q: image_of[q])
    share = by_image[len(by_image) * rank // processes : len(by_image) * (rank + 1) // processes]
    passes = [share[start : start + batch_size] for start in range(0, len(share), batch_size)]
    images = [sorted({image_of[q] for q in some}) for some in passes]
    pixels = decoded_batches(questions.images, images, transform, max_pixels=max_pixels, workers=workers)
    bar = tqdm(passes, unit="pass", desc="answering", leave=False, disable=None if rank == 0 else True)
    own: dict[int, str] = {}
    try:
        for some, shown, batch in zip(bar, images, pixels, strict=True):
            ids, mask = (tensor.to(device) for tensor in tokenize([questions.questions[q].question for q in some]))
            place = {image: i for i, image in enumerate(shown)}
            index = torch.tensor([place[image_of[q]] for q in some], device=device)
            with accelerator.autocast():
                asked = networks.read_questions(batch.to(device), ids, mask, index)
                own |= dict(zip(some, answer(asked), strict=True))
    finally:
        networks.train(was_training)
    gathered = {q: text for part in gather_object([own]) for q, text in part.items()}
    return [gathered[q] for q in range(len(image_of))]
