"""Parity with the published code in fine-tuning: a retrieval step, two-stage evaluation, a VQA step, ranked answers.

Any files of the same form work: `TCL_GOLDEN_DIR=folder pytest tests/test_golden_finetuning.py`.
"""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors import safe_open

from tcl.checkpoints.published import count_text_layers, from_published
from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.config.retrieval_eval import EvalConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.sets.retrieval_set import RetrievalSet
from tcl.data.texts.answer_tokens import AnswerTokens
from tcl.data.texts.text_tokens import Texts
from tcl.evaluation.answering import AnswerList, rank_answers
from tcl.evaluation.evaluate_retrieval import evaluate_retrieval
from tcl.models.answer_decoder import answer_decoder_from
from tcl.models.encoders import build_encoders
from tcl.objectives.hard_negatives import Negatives
from tcl.objectives.question_answering import AnswerTargets, AnswerTeacher, VQANetworks, VQAStudent
from tcl.objectives.tcl import TCLStudent
from tcl.objectives.tcl_teacher import TCLTeacher
from tcl.training.full_weights import full_weights

GOLDEN_DIR = Path(os.environ.get("TCL_GOLDEN_DIR", Path(__file__).parent / "golden"))


def assert_close(ours: torch.Tensor, published: torch.Tensor) -> None:
    """Relative to the size of the whole, as in test_golden.py."""
    ours, published = ours.detach().double(), published.double()
    assert ours.shape == published.shape
    assert float((ours - published).norm()) <= 1e-4 * float(published.norm().clamp(min=1e-12))


def read(name: str, image_size: int, embed_dim: int) -> SimpleNamespace:
    with safe_open(GOLDEN_DIR / name, "pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    bert, layers = metadata["bert_config"], count_text_layers(state)
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
    others = ("vocab_size", "type_vocab_size", "layer_norm_eps", "hidden_act")
    model = ModelConfig(
        image=ImageEncoderConfig(image_size=image_size, overrides=metadata["vision"]),
        text=TextEncoderConfig(
            fusion_layers=bert["num_hidden_layers"] - layers, overrides={key: bert[key] for key in (*sizes, *others)}
        ),
        embed_dim=embed_dim,
    )
    torch.manual_seed(0)
    encoders = build_encoders(model, bert["vocab_size"], bert["pad_token_id"])
    return SimpleNamespace(metadata=metadata, tensors=tensors, published=from_published(state), encoders=encoders)


def image_size_of(name: str, key: str) -> int:
    with safe_open(GOLDEN_DIR / name, "pt") as file:
        return file.get_slice(key).get_shape()[-1]


@pytest.fixture(scope="module")
def step() -> SimpleNamespace:
    """The recorded retrieval step, up to the losses."""
    name = "retrieval.safetensors"
    with safe_open(GOLDEN_DIR / name, "pt") as file:
        config = json.loads(file.metadata()["config"])
    golden = read(name, config["image_res"], config["embed_dim"])
    tensors = golden.tensors
    objective = ObjectiveConfig(
        queue_size=config["queue_size"], momentum=config["momentum"], temperature=config["temp"], mlm_weight=0.0
    )
    student = TCLStudent(golden.encoders, objective)
    teacher = TCLTeacher(student.encoders, objective, lmi_regions=4, seed=0, with_ids=True)
    missing, unexpected = student.load_state_dict(golden.published.student, strict=False)
    assert not unexpected and all(name.startswith("encoders.mlm_head.") for name in missing)
    missing, unexpected = teacher.load_state_dict(golden.published.teacher, strict=False)
    assert not unexpected and all(name.startswith("encoders.mlm_head.") for name in missing)
    student.eval()
    teacher.eval()
    inputs = {
        "image": Images(tensors["in.image"], tensors["in.image_aug"]),
        "text": Texts(tensors["in.input_ids"], tensors["in.attention_mask"]),
    }
    batch = Batch([str(i) for i in range(len(tensors["in.image"]))], inputs, ids=tensors["in.idx"])
    yes = torch.ones(len(batch), dtype=torch.bool)
    negatives = Negatives(tensors["draw.neg_image_idx"], tensors["draw.neg_text_idx"], yes, yes)
    teacher.update(full_weights(student.encoders))
    targets = teacher(batch, {"temperature": student.temperature.detach()}, golden.metadata["alpha"])
    losses = student(batch, targets, negatives)
    return SimpleNamespace(**{**vars(golden), **locals()})


def test_retrieval_losses(step):
    losses = step.losses
    names = ("i2t", "t2i", "imc_image", "imc_text", "lmi_image", "lmi_text")
    six = [losses.each[name] for name in names]
    assert_close(sum(six) / 6, step.tensors["out.loss_ita"])
    assert_close(losses.each["itm"], step.tensors["out.loss_itm"])
    assert_close(losses.total, step.tensors["out.loss_ita"] + step.tensors["out.loss_itm"])


def test_retrieval_queue(step):
    """Features and ids of the batch over the oldest rows; the rest is as it was."""
    B = len(step.batch)
    before = {name: value.clone() for name, value in step.teacher.state_dict().items() if "queue" in name}
    step.teacher.enqueue(step.targets.to_enqueue(B))
    after = step.teacher.state_dict()
    assert after["id_queue.ids"][:B].equal(step.batch.ids)
    assert after["id_queue.ids"][B:].equal(before["id_queue.ids"][B:])
    for name in ("image_queue", "text_queue"):
        published = {key[6:]: value for key, value in step.tensors.items() if key.startswith("after.")}
        if name in published:
            assert_close(after[f"{name}.features"], published[name].T)
        assert after[f"{name}.features"][B:].equal(before[f"{name}.features"][B:])
        assert after[f"{name}.pointer"] == B


@pytest.mark.parametrize("pass_tokens", [1, 40, 8192])
def test_retrieval_two_stage_scores_and_recalls(step, pass_tokens):
    tensors, k = step.tensors, step.metadata["k_test"]
    pixels, ids, mask = tensors["eval.image"], tensors["eval.input_ids"], tensors["eval.attention_mask"]
    per_image = len(ids) // len(pixels)
    data = RetrievalSet(
        images=list(range(len(pixels))),
        captions=[str(i) for i in range(len(ids))],
        pairs=[(i // per_image, i) for i in range(len(ids))],
        image_ids=[str(i) for i in range(len(pixels))],
        caption_ids=[str(i) for i in range(len(ids))],
    )
    found = evaluate_retrieval(
        Accelerator(cpu=True),
        step.student,
        data,
        decode=lambda batches: (pixels[some] for some in batches),
        tokenize=lambda texts: (ids, mask),
        config=EvalConfig(rerank_k=k, pass_tokens=pass_tokens, batch_size=3),
    )
    AcceleratorState._reset_state(reset_partial_state=True)
    for ranked, name in ((found.images, "eval.score_i2t"), (found.captions, "eval.score_t2i")):
        scores = torch.full_like(tensors[name], -100.0).scatter_(1, ranked.candidates, ranked.scores)
        torch.testing.assert_close(scores, tensors[name], rtol=0, atol=1e-4)
    published = step.metadata["recalls"]
    for ours, theirs in (("i2t", "txt"), ("t2i", "img")):
        for cut in (1, 5, 10):
            assert found.metrics[f"rerank_{ours}_r{cut}"] == pytest.approx(published[f"{theirs}_r{cut}"], abs=1e-4)


@pytest.fixture(scope="module")
def vqa() -> SimpleNamespace:
    golden = read("vqa.safetensors", image_size_of("vqa.safetensors", "in.image"), embed_dim=8)
    encoders, tensors = golden.encoders, golden.tensors
    decoder = answer_decoder_from(encoders, golden.metadata["decoder_layers"])
    networks = VQANetworks(encoders.image_encoder, encoders.text_encoder, encoders.fusion_encoder, decoder)
    student = VQAStudent(networks)
    student.load_state_dict(golden.published.student)
    teacher = AnswerTeacher(networks, momentum=0.995)
    teacher.load_state_dict(golden.published.teacher)
    mask = tensors["in.answer_mask"]
    asked = mask.bool() & mask.roll(-1, dims=1).bool()
    asked[:, -1] = False
    positions = asked.flatten().nonzero().flatten()
    answers = AnswerTokens(
        tensors["in.answer_ids"],
        weights=tensors["in.answer_weights"],
        question_index=torch.arange(len(tensors["in.image"])).repeat_interleave(tensors["in.answers_per_question"]),
        target_positions=positions,
        target_ids=tensors["in.answer_ids"].flatten()[positions + 1],
    )
    inputs = {
        "image": Images(tensors["in.image"]),
        "text": Texts(tensors["in.question_ids"], tensors["in.question_mask"]),
        "answer": answers,
    }
    batch = Batch([str(i) for i in range(len(tensors["in.image"]))], inputs)
    student.eval()
    teacher.eval()
    return SimpleNamespace(**{**vars(golden), **locals()})


def test_vqa_loss(vqa):
    targets = AnswerTargets(None, vqa.metadata["alpha_effective"])
    assert_close(vqa.student(vqa.batch, targets).total, vqa.tensors["out.loss"])


def test_vqa_distillation_is_over_the_vocabulary(vqa):
    """By hand, answer by answer and position by position."""
    alpha, batch, answers = 0.4, vqa.batch, vqa.batch.inputs["answer"]
    targets = vqa.teacher(batch, {}, alpha)
    loss = vqa.student(batch, targets).total
    asked = batch.inputs["image"].view, batch.inputs["text"].ids, batch.inputs["text"].mask
    questions = vqa.networks.read_questions(*asked)
    theirs = vqa.teacher.networks.read_questions(*asked)
    by_hand = 0.0
    for a in range(len(answers.ids)):
        ids = answers.ids[a : a + 1, : int(vqa.mask[a].sum())]
        index = answers.question_index[a : a + 1]
        logits = vqa.networks.decoder.logits(vqa.networks.decoder(ids, questions, index)[0])[0]
        decoder = vqa.teacher.networks.decoder
        soft = decoder.logits(decoder(ids, theirs, index)[0])[0].softmax(dim=-1)
        for t in range(ids.shape[1] - 1):
            log_p = logits[t].log_softmax(dim=-1)
            hard = -log_p[ids[0, t + 1]]
            by_hand += answers.weights[a] * ((1 - alpha) * hard - alpha * (soft[t] * log_p).sum())
    torch.testing.assert_close(loss, by_hand / len(batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pass_tokens", [1, 1000])
def test_vqa_ranked_answers(vqa, pass_tokens):
    tensors = vqa.tensors
    answers = AnswerList(tensors["rank.candidate_ids"], tensors["rank.candidate_mask"].sum(dim=1))
    batch = vqa.batch
    asked = batch.inputs["image"].view, batch.inputs["text"].ids, batch.inputs["text"].mask
    with torch.no_grad():
        questions = vqa.networks.read_questions(*asked)
    ids, probabilities = rank_answers(vqa.networks.decoder, questions, answers, vqa.metadata["k"], pass_tokens)
    assert ids.equal(tensors["rank.topk_ids"])
    torch.testing.assert_close(probabilities, tensors["rank.topk_probs"], rtol=0, atol=1e-4)
