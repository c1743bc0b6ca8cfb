"""Parity with the published code in grounding: maps, enlarged maps, boxes, IoU, accuracies, and a training step.

Any files of the same form work: `TCL_GOLDEN_TASKS_DIR=folder pytest tests/test_golden_grounding.py`.
"""

import json
import os
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from tcl.checkpoints.published import count_text_layers, from_published, to_published
from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.texts.text_tokens import Texts
from tcl.evaluation.box_choice import EXPONENT, box_scores, enlarge, locate
from tcl.evaluation.box_overlap import HIT, iou
from tcl.evaluation.text_maps import text_maps, watched
from tcl.models.encoders import build_encoders
from tcl.models.grad_cam import match_maps
from tcl.objectives.hard_negatives import Negatives
from tcl.objectives.tcl import TCLStudent
from tcl.objectives.tcl_teacher import TCLTeacher
from tcl.tasks.grounding import Config
from tcl.training.full_weights import full_weights

FOLDER = Path(os.environ.get("TCL_GOLDEN_TASKS_DIR", Path(__file__).parent / "golden" / "tasks"))
MODES = ("itm", "itc")


def assert_close(ours: torch.Tensor, published: torch.Tensor) -> None:
    """Relative to the size of the whole, as in test_golden.py."""
    ours, published = ours.detach().double(), published.double()
    assert ours.shape == published.shape
    assert float((ours - published).norm()) <= 1e-4 * float(published.norm().clamp(min=1e-12))


@pytest.fixture(scope="module")
def golden() -> SimpleNamespace:
    """The recorded model and its inputs; the objective is the default of the task but for its sizes."""
    with safe_open(FOLDER / "grounding.safetensors", "pt") as file:
        metadata = {key: _value(value) for key, value in file.metadata().items()}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    bert, text_layers = metadata["bert_config"], count_text_layers(state)
    known = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
    others = ("vocab_size", "type_vocab_size", "layer_norm_eps", "hidden_act")
    vision = {name: value for name, value in metadata["vision"].items() if name != "image_size"}
    model = ModelConfig(
        image=ImageEncoderConfig(image_size=metadata["vision"]["image_size"], overrides=vision),
        text=TextEncoderConfig(
            fusion_layers=bert["num_hidden_layers"] - text_layers,
            overrides={key: bert[key] for key in (*known, *others) if key in bert},
        ),
        embed_dim=metadata["embed_dim"],
    )
    objective = Config().objective
    objective.queue_size, objective.momentum = state["image_queue"].shape[1], metadata["momentum"]
    torch.manual_seed(0)
    encoders = build_encoders(model, bert["vocab_size"], bert["pad_token_id"])
    student = TCLStudent(encoders, objective)
    teacher = TCLTeacher(student.encoders, objective, lmi_regions=4, seed=0, with_ids=True)
    published = from_published(state)
    for module, weights in ((student, published.student), (teacher, published.teacher)):
        missing, unexpected = module.load_state_dict(weights, strict=False)
        assert not unexpected and all(name.startswith("encoders.mlm_head.") for name in missing)
        module.eval()
    return SimpleNamespace(**locals())


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def test_the_layers_are_the_published_ones(golden):
    """Of models of the published depth, as the names of the options say."""
    itm, itc = (watched(golden.student, mode, None).layer for mode in MODES)
    if len(golden.encoders.fusion_encoder.layers) == 6:
        assert itm == golden.metadata["fusion_layer_index"]
    if len(golden.encoders.image_encoder.layers) in (2, 12):
        assert itc == golden.metadata["itc_block_num"]
    assert golden.metadata["block_num"] == golden.text_layers + golden.metadata["fusion_layer_index"]


@pytest.fixture(scope="module")
def maps(golden) -> dict[str, torch.Tensor]:
    """[B, rows, columns] by mode, all pairs in one pass: the batch changes nothing but the divisor."""
    tensors, metadata = golden.tensors, golden.metadata
    layers = {"itm": metadata["fusion_layer_index"], "itc": metadata["itc_block_num"]}
    inputs = tensors["in.image"], tensors["in.input_ids"], tensors["in.attention_mask"]
    rows = torch.arange(len(tensors["in.image"]))
    return {
        mode: text_maps(golden.student, watched(golden.student, mode, layers[mode]), *inputs, rows, nullcontext)
        for mode in MODES
    }


def divisors(golden) -> torch.Tensor:
    """[B, 1, 1]: tokens of each text, over the longest of its recorded batch."""
    lengths = golden.tensors["in.attention_mask"].sum(dim=1)
    longest = torch.cat([part.max().expand(len(part)) for part in lengths.split(golden.metadata["batch"])])
    return (lengths / longest)[:, None, None]


def test_maps(golden, maps):
    assert_close(maps["itm"] * divisors(golden), golden.tensors["out.cam_itm"])
    assert_close(maps["itc"], golden.tensors["out.cam_itc"])


def test_texts_of_one_image_share_it(golden, maps):
    """As in an evaluation: the images once each, in another order, and an index."""
    tensors, metadata = golden.tensors, golden.metadata
    images, image_of = tensors["in.image"].flatten(1).unique(dim=0, return_inverse=True)
    assert len(images) < len(image_of)
    images = images.unflatten(1, tensors["in.image"].shape[1:])
    for mode, layer in (("itm", metadata["fusion_layer_index"]), ("itc", metadata["itc_block_num"])):
        texts = tensors["in.input_ids"], tensors["in.attention_mask"], image_of
        found = text_maps(golden.student, watched(golden.student, mode, layer), images, *texts, nullcontext)
        torch.testing.assert_close(found, maps[mode], rtol=1e-4, atol=1e-9)


def test_attention_and_its_gradient(golden):
    """Of the first pair: their product, token by token; and the logit by which it was taken."""
    tensors = golden.tensors
    attention, gradient = tensors["out.attention_0"], tensors["out.attention_gradient_0"]
    of_tokens = (attention * gradient.clamp(min=0)).mean(dim=0)[:, 1:]
    with torch.no_grad():
        image_tokens = golden.encoders.image_encoder(tensors["in.image"])
        text = golden.encoders.text_encoder(tensors["in.input_ids"], tensors["in.attention_mask"])
        fusion = golden.encoders.fusion_encoder
        fused = fusion(text, tensors["in.attention_mask"], fusion.image_keys_values(image_tokens))
        assert_close(golden.student.itm_head(fused[:, 0]), tensors["out.itm_logits"])
    texts = tensors["in.input_ids"], tensors["in.attention_mask"], torch.arange(len(image_tokens))
    layer = golden.metadata["fusion_layer_index"]
    found = match_maps(golden.encoders, golden.student.itm_head, image_tokens, *texts, layer)[0]
    assert_close(found[: len(of_tokens)], of_tokens)


def test_enlarged_maps(golden, maps):
    scaled = maps["itm"] * divisors(golden)
    for name, published in golden.tensors.items():
        if name.startswith("out.upsampled_"):
            assert_close(enlarge(scaled[int(name.rpartition("_")[2])], *published.shape), published)


@pytest.mark.parametrize("mode", MODES)
def test_boxes_and_accuracies(golden, maps, mode):
    tensors, metadata = golden.tensors, golden.metadata
    assert metadata["alpha"] == EXPONENT
    right = defaultdict(list)
    for i, split in enumerate(metadata["splits"]):
        height, width = tensors["in.size"][i].tolist()
        proposals = [tuple(box) for box in tensors["in.proposals"][i].tolist()]
        found = locate(maps[mode][i], height, width, proposals)
        assert found.proposal == tensors[f"out.box_{mode}"][i] and found.box == proposals[found.proposal]
        assert not found.blank
        assert box_scores(enlarge(maps[mode][i], height, width), proposals).argmax() == found.proposal
        overlap = iou(tuple(tensors["in.gold_box"][i].tolist()), found.box)
        assert overlap == pytest.approx(tensors[f"out.iou_{mode}"][i].item(), rel=1e-4, abs=1e-9)
        right[f"{split}_d"].append(overlap >= HIT)
    accuracy = {split: sum(rows) / len(rows) for split, rows in right.items()}
    assert accuracy == pytest.approx(metadata[f"accuracy_{mode}"], abs=1e-9)


@pytest.fixture(scope="module")
def step(golden) -> SimpleNamespace:
    """The recorded training step, up to the gradients."""
    tensors, student, teacher = golden.tensors, golden.student, golden.teacher
    image = tensors["in.image"]
    texts = Texts(tensors["in.input_ids"], tensors["in.attention_mask"])
    inputs = {"image": Images(image, image), "text": texts}  # one view for student and teacher
    batch = Batch([str(i) for i in range(len(image))], inputs, ids=tensors["train.in.idx"])
    yes = torch.ones(len(batch), dtype=torch.bool)
    negatives = Negatives(tensors["train.draw.neg_image_idx"], tensors["train.draw.neg_text_idx"], yes, yes)
    teacher.update(full_weights(student.encoders))
    targets = teacher(batch, {"temperature": student.temperature.detach()}, golden.metadata["train_alpha"])
    student.zero_grad()
    losses = student(batch, targets, negatives)
    losses.total.backward()
    return SimpleNamespace(**{**vars(golden), **locals()})


def test_losses_of_a_training_step(step):
    """(i2t + t2i) / 2 and ITM, unweighted, by the weights that the task has unless it is told otherwise."""
    each = step.losses.each
    assert set(each) == {"i2t", "t2i", "itm"}
    assert_close((each["i2t"] + each["t2i"]) / 2, step.tensors["train.out.loss_ita"])
    assert_close(each["itm"], step.tensors["train.out.loss_itm"])
    assert_close(step.losses.total, step.tensors["train.out.loss_ita"] + step.tensors["train.out.loss_itm"])


def test_gradient_norms_of_a_training_step(step):
    """Each parameter's under its published name; what no loss reads has none."""
    expected = step.metadata["train_grad_norms"]
    gradients = {name: p.grad for name, p in step.student.named_parameters() if p.grad is not None}
    found = {}
    for name, gradient in gradients.items():
        source = step.published.source.get(name)
        if source is not None:
            found[source] = float(gradient.norm())
    assert set(expected) <= set(found)
    scale = max(expected.values())
    for name, norm in expected.items():
        assert found[name] == pytest.approx(norm, rel=1e-4, abs=1e-8 * scale), name


def test_queues_after_a_training_step(step):
    B = len(step.batch)
    step.teacher.enqueue(step.targets.to_enqueue(B))
    after = step.teacher.state_dict()
    assert after["id_queue.ids"].equal(step.tensors["train.after.idx_queue"][0])
    assert_close(after["image_queue.features"], step.tensors["train.after.image_queue"].T)


def test_the_published_checkpoint_round_trips(golden):
    """It is one of retrieval: names in and out, bit for bit."""
    again = to_published(golden.published.student, golden.published.teacher)
    added = {name for name in again.keys() - golden.state.keys() if not name.endswith("position_ids")}
    assert not added
    for name, tensor in golden.state.items():
        assert again[name].equal(tensor), name
