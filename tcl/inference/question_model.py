"""A loaded VQA model: answers to questions about images."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import overload

import torch
from huggingface_hub import ModelHubMixin
from tqdm import tqdm

from tcl.data.images.augment import eval_transform
from tcl.data.texts.question import tokenize_answers
from tcl.errors import InputError
from tcl.evaluation.answering import AnswerList, choose_answers, write_answers
from tcl.exports.pretrained import Pretrained, load_pretrained, save_pretrained
from tcl.inference.candidate_answers import list_candidates, tokenize_candidates
from tcl.inference.hardware import Precision, find_hardware
from tcl.inference.images import ImageLike, list_images, read_pixels
from tcl.inference.texts import list_texts, tokenize_texts
from tcl.models.fusion_encoder import KeysValues
from tcl.shown import QUIET_SECONDS
from tcl.tasks.vqa import Answers, Eval

Answer = Callable[[list[KeysValues]], list[str]]
"""What the decoder sees of some questions -> their answers."""


class TCLForVQA(ModelHubMixin):
    """A model fine-tuned on visual question answering, ready to use; `docs/python.md` shows it.

    Images are what they are to tcl.TCL. What cannot be used is refused with tcl.errors.InputError, one line that names
    it, as by tcl.TCL; questions are cleaned and cut as there.
    """

    _hub_mixin_config: dict = {}  # noqa: RUF012  else the mixin would copy the whole model into it

    def __init__(
        self,
        pretrained: Pretrained,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
        batch_size: int = 32,
    ):
        """Arguments as in `from_pretrained`."""
        if pretrained.kind != "vqa":
            raise InputError(f"a {pretrained.kind} model answers no questions; load it with TCL")
        if batch_size < 1:
            raise InputError(f"batch_size: {batch_size} is not possible; accepted: 1 or more")
        self.pretrained = pretrained
        self.precision = precision
        self.batch_size = batch_size
        self.student = pretrained.student.eval()
        image = self.student.networks.image_encoder
        self.transform = eval_transform(pretrained.model.image.image_size, image.mean, image.std)
        self.to(device)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
        batch_size: int = 32,
    ) -> "TCLForVQA":
        """Load a VQA run's output_dir, one of its checkpoints, an exported folder or a hub id.

        Arguments and errors as of `tcl.TCL.from_pretrained`; batch_size counts questions.
        """
        pretrained = load_pretrained(str(source), revision=revision)
        return cls(pretrained, device=device, precision=precision, batch_size=batch_size)

    def _save_pretrained(self, save_directory: Path) -> None:
        """For the mixin's save_pretrained and push_to_hub."""
        save_pretrained(self.pretrained, save_directory)

    def to(self, device: str | torch.device | None) -> "TCLForVQA":
        """Move to a device, as in `from_pretrained`; returns itself."""
        self.hardware = find_hardware(device, self.precision)
        self.student.to(self.hardware.device)
        return self

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
