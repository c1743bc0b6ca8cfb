"""Answers of a VQA model to all questions of a set: ranked among a closed list, or written freely."""

from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from tcl.data.questions import QuestionSet
from tcl.data.text import tokenize
from tcl.evaluation.answering import AnswerList, generate_answers, rank_answers
from tcl.evaluation.decoded_images import decoded_batches
from tcl.models.vqa import VQANetworks


@torch.no_grad()
def answer_questions(
    accelerator: Accelerator,
    networks: VQANetworks,
    questions: QuestionSet,
    tokenizer: PreTrainedTokenizerBase,
    transform: Callable[[Image.Image], Tensor],
    *,
    candidates: Sequence[str] | None,
    answer_list: AnswerList | None,
    rank_k: int,
    beams: int,
    max_answer_tokens: int,
    max_question_tokens: int,
    batch_size: int,
    pass_tokens: int,
    max_pixels: int,
    workers: int,
) -> list[str]:
    """An answer to each question, in their order. Called on every process, which share the work; all get the result.

    candidates: the closed list, answer_list: its tokens; None: answers are written freely. batch_size questions are
    answered at a time, those about one image together: it is encoded once. For the rest see tcl.tasks.vqa.
    """
    was_training = networks.training
    networks.eval()
    own: dict[int, str] = {}
    rank, processes = accelerator.process_index, accelerator.num_processes
    by_image = sorted(range(len(questions.questions)), key=lambda q: questions.image_of_question[q])
    share = by_image[len(by_image) * rank // processes : len(by_image) * (rank + 1) // processes]
    passes = [share[start : start + batch_size] for start in range(0, len(share), batch_size)]
    images = [sorted({questions.image_of_question[q] for q in some}) for some in passes]
    pixels = decoded_batches(questions.images, images, transform, max_pixels=max_pixels, workers=workers)
    bar = tqdm(passes, unit="pass", desc="answering", leave=False, disable=None if rank == 0 else True)
    try:
        for some, shown, batch in zip(bar, images, pixels, strict=True):
            ids, mask = tokenize(tokenizer, [questions.questions[q].question for q in some], max_question_tokens)
            ids, mask = ids.to(accelerator.device), mask.to(accelerator.device)
            index = torch.tensor([shown.index(questions.image_of_question[q]) for q in some], device=accelerator.device)
            with accelerator.autocast():
                asked = networks.read_questions(batch.to(accelerator.device), ids, mask, index)
                if candidates is not None:
                    best, _ = rank_answers(networks.decoder, asked, answer_list, rank_k, pass_tokens)
                    answers = [candidates[i] for i in best[:, 0].tolist()]
                else:
                    written = generate_answers(
                        networks.decoder,
                        asked,
                        beams=beams,
                        max_tokens=max_answer_tokens,
                        cls_id=tokenizer.cls_token_id,
                        sep_id=tokenizer.sep_token_id,
                    )
                    answers = [tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in written]
            own |= dict(zip(some, answers, strict=True))
    finally:
        networks.train(was_training)
    gathered = {q: answer for part in gather_object([own]) for q, answer in part.items()}
    return [gathered[q] for q in range(len(questions.questions))]
