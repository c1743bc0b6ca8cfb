"""A loaded VQA model: answers to questions about images."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import overload

import torch
from tqdm import tqdm

from tcl.data.texts.question import tokenize_answers
from tcl.errors import InputError
from tcl.evaluation.answering import AnswerList, choose_answers, write_answers
from tcl.inference.candidate_answers import list_candidates, tokenize_candidates
from tcl.inference.images import ImageLike, list_images, read_pixels
from tcl.inference.loaded_model import LoadedModel
from tcl.inference.texts import list_texts, tokenize_texts
from tcl.models.fusion_encoder import KeysValues
from tcl.shown import QUIET_SECONDS
from tcl.tasks.vqa import Answers, Eval

Answer = Callable[[list[KeysValues]], list[str]]
"""What the decoder sees of some questions -> their answers."""


class TCLForVQA(LoadedModel):
    """A model fine-tuned on visual question answering, ready to use; `docs/python.md` shows it.

    Images are what they are to tcl.TCL. What cannot be used is refused with tcl.errors.InputError, one line that names
    it, as by tcl.TCL; questions are cleaned and cut as there.
    """

    @overload
    def answer(self, image: ImageLike, question: str, candidates: Iterable[str] | None = None) -> str: ...

    @overload
    def answer(
        self, image: ImageLike | Iterable[ImageLike], question: list[str], candidates: Iterable[str] | None = None
    ) -> list[str]: ...

    def answer(self, image, question, candidates=None):
        """The answer to a question about an image, or a list of them to a list of questions.

        image: one for all questions, or as many as there are. candidates: possible answers, of which the most probable
        is given; None: those of the list that the model was fine-tuned with, and where it had none the decoder writes
        whatever it likes, in at most 10 tokens.
        InputError: neither one image nor as many as questions, no candidates, or the same one twice.
        """
        questions, images = list_texts(question, "question"), list_images(image, "image")
        if len(images) not in (1, len(questions)):
            raise InputError(f"image: {len(images)} for {len(questions)} questions; give one for all, or one for each")
        own, tokenizer = self.pretrained.answers, self.pretrained.tokenizer
        if candidates is not None:
            listed = list_candidates(candidates)
            answer = self._chosen(listed, tokenize_candidates(listed, tokenizer))
        elif own is not None:  # as fine-tuning evaluated it, whatever is in it
            answer = self._chosen(own, AnswerList(*tokenize_answers(tokenizer, own, Answers.max_tokens)))
        else:
            answer = self._written()
        answers = self._answer_all(images, questions, answer)
        return answers[0] if isinstance(question, str) else answers

    def _chosen(self, candidates: list[str], tokens: AnswerList) -> Answer:
        device = self.hardware.device
        return partial(
            choose_answers,
            decoder=self.student.networks.decoder,
            candidates=candidates,
            answers=AnswerList(tokens.ids.to(device), tokens.lengths.to(device)),
            rank_k=Answers.rank_k,
            pass_tokens=Eval.pass_tokens,
        )

    def _written(self) -> Answer:
        return partial(
            write_answers,
            decoder=self.student.networks.decoder,
            tokenizer=self.pretrained.tokenizer,
            beams=Answers.beams,
            max_tokens=Answers.max_tokens,
        )

    @torch.no_grad()
    def _answer_all(self, images: list[ImageLike], questions: list[str], answer: Answer) -> list[str]:
        """Of one image, or of as many as there are questions."""
        known, device, networks = self.pretrained, self.hardware.device, self.student.networks
        ids, mask = tokenize_texts(
            questions, known.tokenizer, max_words=known.max_words, max_tokens=known.max_tokens, name="question"
        )
        answers: list[str] = []
        starts = range(0, len(questions), self.batch_size)
        for start in tqdm(starts, desc="answering", unit="batch", leave=False, delay=QUIET_SECONDS, disable=None):
            some = slice(start, start + self.batch_size)
            of_one = len(images) == 1
            pixels = read_pixels(images if of_one else images[some], self.transform, "image", 0 if of_one else start)
            index = torch.zeros(len(ids[some]), dtype=torch.long, device=device) if of_one else None
            with self.hardware.autocast():
                asked = networks.read_questions(pixels.to(device), ids[some].to(device), mask[some].to(device), index)
                answers += answer(asked)
        return answers
