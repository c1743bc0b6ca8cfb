"""Encoders, student and teacher: shapes, what may not influence what, and shared work equal to separate work."""

import copy

import pytest
import torch
from tiny import BERT, MODEL, VOCABULARY, random_batch, tiny_models
from torch import nn

from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.encoders.dropout import Dropout
from tcl.errors import InputError
from tcl.models.encoders import build_encoders
from tcl.models.queue import FeatureQueue
from tcl.objectives.hard_negatives import draw_batch_negatives
from tcl.training.full_weights import full_weights


def with_text(name: str, **overrides) -> ModelConfig:
    return ModelConfig(
        image=MODEL.image, text=TextEncoderConfig(name=name, overrides={**BERT, **overrides}), embed_dim=8
    )


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit3_small_patch16_224", "eva02_tiny_patch14_224"])
def test_any_timm_vit_gives_cls_and_patches(name):
    patch = 14 if "14" in name else 16
    encoder = build_image_encoder(ImageEncoderConfig(name=name, image_size=2 * patch, overrides={"depth": 1}))
    assert encoder(torch.randn(1, 3, 2 * patch, 2 * patch)).shape == (1, 5, encoder.width)
    assert encoder.grid == (2, 2)


def test_register_tokens_are_left_out():
    config = ImageEncoderConfig(name="vit_small_patch14_reg4_dinov2", image_size=28, overrides={"depth": 1})
    encoder = build_image_encoder(config)
    image = torch.randn(1, 3, 28, 28)
    tokens, all_tokens = encoder(image), encoder.vit.forward_features(image)
    assert tokens.shape[1] == 5 and all_tokens.shape[1] == 9
    torch.testing.assert_close(tokens[:, 1:], all_tokens[:, 5:])


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "electra"])
def test_any_encoder_of_bert_layers(name):
    extra = {"embedding_size": 12} if name == "electra" else {}
    encoders = build_encoders(with_text(name, hidden_dropout_prob=0.1, **extra), VOCABULARY, pad_id=1)
    ids, mask = torch.randint(5, VOCABULARY, (2, 6)), torch.ones(2, 6, dtype=torch.long)
    tokens = encoders.text_encoder(ids, mask)
    keys_values = encoders.fusion_encoder.image_keys_values(torch.randn(2, 5, 24))
    fused = encoders.fusion_encoder(tokens, mask, keys_values)
    logits = encoders.predict_tokens(fused, torch.tensor([1, 7]))
    assert tokens.shape == fused.shape == (2, 6, 16) and logits.shape == (2, VOCABULARY)
    dropouts = [module for module in encoders.modules() if isinstance(module, nn.Dropout) and module.p > 0]
    assert all(isinstance(module, Dropout) for module in dropouts) and len(dropouts) > 4


@pytest.mark.parametrize("name", ["roberta-prelayernorm", "distilbert", "gpt2", "no-such-type"])
def test_what_is_not_built_of_bert_layers_is_refused(name):
    with pytest.raises(InputError, match=r"model\.text"):
        build_encoders(with_text(name), VOCABULARY, pad_id=0)


@pytest.mark.parametrize("count", [0, 4, 5])
def test_fusion_layers_must_leave_a_text_encoder(count):
    text = TextEncoderConfig(overrides=BERT, fusion_layers=count)
    with pytest.raises(InputError, match=rf"model\.text\.fusion_layers: {count} of 4"):
        build_encoders(ModelConfig(image=MODEL.image, text=text), VOCABULARY, pad_id=0)


def test_pretrained_folder_gives_text_and_fusion_layers_and_head(tmp_path):
    """Lower layers to the text encoder, upper ones to the fusion encoder, the head's weights to the MLM head."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    bert = AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", vocab_size=VOCABULARY, **BERT))
    bert.save_pretrained(tmp_path)
    text = TextEncoderConfig(name=str(tmp_path), pretrained=True)
    encoders = build_encoders(ModelConfig(image=MODEL.image, text=text), VOCABULARY, pad_id=0)
    layers = bert.bert.encoder.layer
    ours = encoders.text_encoder.bert.encoder.layer[1].output.dense.weight
    assert ours.equal(layers[1].output.dense.weight)
    assert encoders.fusion_encoder.layers[0].feed_forward.down.weight.equal(layers[2].output.dense.weight)
    assert encoders.fusion_encoder.layers[1].self_attention.query.weight.equal(layers[3].attention.self.query.weight)
    assert encoders.mlm_head.dense.weight.equal(bert.cls.predictions.transform.dense.weight)
    with pytest.raises(InputError, match="embeds only 50"):
        build_encoders(ModelConfig(image=MODEL.image, text=text), VOCABULARY + 1, pad_id=0)


@torch.no_grad()
def test_texts_of_an_image_and_texts_of_others_are_fused_as_each_alone():
    """Two texts of each of two images, then three texts that look at rows of their own."""
    fusion = tiny_models()[0].encoders.fusion_encoder.eval()
    text, mask, images = torch.randn(7, 4, 16), torch.ones(7, 4), torch.randn(2, 5, 24)
    mask[:, 3] = torch.tensor([1, 0, 1, 0, 1, 0, 1])
    keys_values = fusion.image_keys_values(images)
    others = [image.rows(torch.tensor([1, 1, 0])) for image in keys_values]
    together = fusion(text, mask, keys_values, others)
    for row, image in enumerate((0, 0, 1, 1, 1, 1, 0)):
        alone = fusion(text[row : row + 1], mask[row : row + 1], fusion.image_keys_values(images[image : image + 1]))
        torch.testing.assert_close(together[row], alone[0])


def test_fusion_is_not_causal_and_ignores_padding():
    """With and without padding in the batch: transformers' own cross-attention turns causal in one of the two."""
    fusion = tiny_models()[0].encoders.fusion_encoder.eval()
    text, images = torch.randn(1, 4, 16), fusion.image_keys_values(torch.randn(1, 5, 24))
    short = fusion(text, torch.ones(1, 4), images)
    padded = fusion(torch.cat([text, torch.randn(1, 2, 16)], 1), torch.tensor([[1, 1, 1, 1, 0, 0]]), images)
    torch.testing.assert_close(short, padded[:, :4])
    changed = text.clone()
    changed[:, -1] += 1
    assert not torch.allclose(fusion(changed, torch.ones(1, 4), images)[:, 0], short[:, 0])


def test_one_fusion_pass_equals_four_separate_ones():
    student, _ = tiny_models()
    student.eval()
    encoders, batch = student.encoders, random_batch(3)
    images = encoders.image_encoder(batch.inputs["image"].view)
    texts = encoders.text_encoder(batch.inputs["text"].ids, batch.inputs["text"].mask)
    masked = encoders.text_encoder(batch.inputs["text"].masked.ids, batch.inputs["text"].mask)
    negatives = draw_batch_negatives(torch.randn(3, 3), torch.randn(3, 3))
    pairs, fused_masked = student.fuse(images, texts, masked, batch.inputs["text"].mask, negatives)

    def alone(text: torch.Tensor, t: int, i: int) -> torch.Tensor:
        keys_values = encoders.fusion_encoder.image_keys_values(images[i : i + 1])
        mask = batch.inputs["text"].mask[t : t + 1]
        return encoders.fusion_encoder(text[t : t + 1], mask, keys_values)[0]

    for b in range(3):
        torch.testing.assert_close(pairs[b], alone(texts, b, b)[0])
        torch.testing.assert_close(pairs[3 + b], alone(texts, b, negatives.images[b])[0])
        torch.testing.assert_close(pairs[6 + b], alone(texts, negatives.texts[b], b)[0])
        torch.testing.assert_close(fused_masked[b], alone(masked, b, b))


def test_a_negative_is_never_the_sample_itself():
    for _ in range(50):
        negatives = draw_batch_negatives(100 * torch.eye(3), 100 * torch.eye(3))
        assert (negatives.images != torch.arange(3)).all() and (negatives.texts != torch.arange(3)).all()


@pytest.mark.parametrize("hardness", [1.0, 0.0005, 0.0])
def test_hardness_of_the_negatives(hardness, monkeypatch):
    """At a temperature of 0.001 the most similar other is always drawn, any other where hardness takes that back."""
    objective = ObjectiveConfig(queue_size=12, temperature=0.001, itm_hardness=hardness)
    student, teacher = tiny_models(objective)
    with torch.no_grad():
        for weight in (*student.eval().encoders.parameters(), *teacher.eval().encoders.parameters()):
            if weight.ndim > 1:
                weight.normal_(std=0.3)  # similarities differ by much more than the temperature
    batch, drawn, fuse = random_batch(4), [], student.fuse
    monkeypatch.setattr(student, "fuse", lambda *given: drawn.append(given[-1]) or fuse(*given))
    with torch.no_grad():
        targets = teacher(batch, {"temperature": student.temperature}, 0.0)
        for _ in range(60):
            student(batch, targets)
    texts = torch.stack([negatives.texts for negatives in drawn])
    images = torch.stack([negatives.images for negatives in drawn])
    image = student.encoders.project_image(student.encoders.image_encoder(batch.inputs["image"].view)[:, 0])
    text = batch.inputs["text"]
    text = student.encoders.project_text(student.encoders.text_encoder(text.ids, text.mask)[:, 0])
    for draws, own, others in (
        (texts, image, targets.candidates["text"][0]),
        (images, text, targets.candidates["image"][0]),
    ):
        nearest = (own @ others.T - 10 * torch.eye(4)).argmax(dim=1)
        for b in range(4):
            met = set(draws[:, b].tolist())
            assert met == ({nearest[b].item()} if hardness == 1 else set(range(4)) - {b})


def test_mlm_head_sees_only_masked_positions():
    student, _ = tiny_models()
    fused, positions = torch.randn(2, 7, 16), torch.tensor([3, 8])
    seen = []
    student.encoders.mlm_head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    logits = student.encoders.predict_tokens(fused, positions)
    assert seen[0].equal(torch.stack([fused[0, 3], fused[1, 1]])) and len(logits) == 2


LOSSES = ("cma", "imc", "lmi", "itm", "mlm", "dsl", "circle")


@pytest.mark.parametrize("off", LOSSES)
def test_a_weight_of_zero_leaves_a_loss_out_and_every_trained_parameter_gets_a_gradient(off):
    objective = ObjectiveConfig(queue_size=12, **{f"{name}_weight": float(name != off) for name in LOSSES})
    student, teacher = tiny_models(objective)
    batch = random_batch(4)
    losses = student(batch, teacher(batch, {"temperature": student.temperature.detach()}, 0.4))
    names = {"cma": "i2t", "imc": "imc_image", "lmi": "lmi_text", "dsl": "dsl_t2i", "circle": "circle_i2t"}
    assert {names.get(name, name) for name in LOSSES} - set(losses.each) == {names.get(off, off)}
    losses.total.backward()
    assert [name for name, p in student.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("only", LOSSES)
def test_each_loss_alone_leaves_no_trained_parameter_without_gradient(only):
    """DDP would wait for it for ever."""
    weights = {f"{name}_weight": float(name == only) for name in LOSSES}
    objective = ObjectiveConfig(queue_size=12, **weights)
    student, teacher = tiny_models(objective)
    batch = random_batch(4)
    student(batch, teacher(batch, {"temperature": student.temperature.detach()}, 0.4)).total.backward()
    assert [name for name, p in student.named_parameters() if p.requires_grad and p.grad is None] == []


def test_forward_passes_change_no_state():
    student, teacher = tiny_models()
    before = copy.deepcopy((student.state_dict(), teacher.state_dict()))
    batch = random_batch(4)
    student(batch, teacher(batch, {"temperature": student.temperature.detach()}, 0.4))
    for old, new in zip(before, (student.state_dict(), teacher.state_dict()), strict=True):
        assert all(old[name].equal(new[name]) for name in old)


def test_teacher_has_no_gradients_and_follows_the_closed_form():
    """theta'_n = m^n theta'_0 + (1 - m) sum over i of m^(n - i) theta_i."""
    student, teacher = tiny_models(ObjectiveConfig(queue_size=12, momentum=0.9))
    assert not any(p.requires_grad for p in teacher.parameters())
    name = "vision_proj.weight"
    start, recorded = teacher.encoders.state_dict()[name].clone().double(), []
    for _ in range(20):
        with torch.no_grad():
            for p in student.encoders.parameters():
                p.add_(torch.randn_like(p))
        recorded.append(student.encoders.state_dict()[name].clone().double())
        teacher.update(full_weights(student.encoders))
    expected = 0.9**20 * start + 0.1 * sum(0.9 ** (19 - i) * theta for i, theta in enumerate(recorded))
    torch.testing.assert_close(teacher.encoders.state_dict()[name].double(), expected, rtol=1e-5, atol=1e-5)


def test_teacher_of_a_bf16_student_stays_fp32_and_closes_the_gap():
    student, teacher = tiny_models(ObjectiveConfig(queue_size=12, momentum=0.995))
    target = copy.deepcopy(student.encoders)
    with torch.no_grad():
        for p in target.parameters():
            p.add_(1.0)
    target = target.bfloat16()
    for _ in range(1000):
        teacher.update(full_weights(target))
    weight, goal = teacher.encoders.vision_proj.weight, target.vision_proj.weight.float()
    assert weight.dtype == torch.float32
    gap = (goal - weight).norm() / (goal - student.encoders.vision_proj.weight).norm()
    assert gap.item() == pytest.approx(0.995**1000, rel=1e-3)


def test_targets_put_the_batch_before_the_queue_and_soften_only_with_alpha():
    student, teacher = tiny_models()
    batch = random_batch(4)
    temperature = student.temperature.detach()
    hard = teacher(batch, {"temperature": temperature}, 0.0)
    assert all(hard.expected[name].equal(hard.candidates[name][0]) for name in ("image", "text"))
    assert hard.mlm_logits is None and hard.candidates["image"][1] is teacher.image_queue.features
    soft = teacher(batch, {"temperature": temperature}, 0.4)
    for expected, features, candidates in (
        (soft.expected["text"], soft.candidates["image"][0], torch.cat(soft.candidates["text"])),
        (soft.expected["image"], soft.candidates["text"][0], torch.cat(soft.candidates["image"])),
    ):
        targets = 0.4 * (features @ candidates.T / temperature).softmax(dim=1) + 0.6 * torch.eye(4, len(candidates))
        torch.testing.assert_close(expected, targets @ candidates)
    assert soft.alpha == 0.4 and len(soft.mlm_logits) == len(batch.inputs["text"].masked.positions)


def test_queue_wraps_for_any_batch_size():
    queue, reference, pointer = FeatureQueue(7, 2, seed=0), None, 0
    reference = [tuple(row) for row in queue.features.tolist()]
    for i, size in enumerate([3, 5, 1, 7, 9, 20, 4]):
        rows = torch.randn(size, 2, generator=torch.Generator().manual_seed(i))
        queue.enqueue(rows)
        for row in rows.tolist():
            reference[pointer] = tuple(row)
            pointer = (pointer + 1) % 7
        assert [tuple(row) for row in queue.features.tolist()] == reference and queue.pointer.item() == pointer


def test_pairs_of_the_same_image_are_never_drawn_as_negatives():
    """Two processes' view: samples 2 to 4 of a batch of six, in which images appear once, twice and three times."""
    ids = torch.tensor([7, 8, 7, 8, 9, 7])
    drawn_texts, drawn_images = [set() for _ in range(3)], [set() for _ in range(3)]
    for _ in range(200):
        negatives = draw_batch_negatives(torch.zeros(3, 6), torch.zeros(3, 6), first=2, ids=ids)
        assert negatives.valid_texts.all() and negatives.valid_images.all()
        for row in range(3):
            drawn_texts[row].add(int(negatives.texts[row]))
            drawn_images[row].add(int(negatives.images[row]))
    expected = [{1, 3, 4}, {0, 2, 4, 5}, {0, 1, 2, 3, 5}]
    assert drawn_texts == expected and drawn_images == expected


def test_a_batch_of_one_image_has_no_negatives():
    negatives = draw_batch_negatives(torch.zeros(3, 3), torch.zeros(3, 3), ids=torch.tensor([5, 5, 5]))
    assert not negatives.valid_texts.any() and not negatives.valid_images.any()


def test_a_repeated_pair_is_right_for_itself():
    """CMA and IMC by hand: both rows of an image share the weight of the right answer, and no queued row has any."""
    student, teacher = tiny_models()
    batch = random_batch(3)
    batch.ids = torch.tensor([7, 3, 7])
    temperature = student.temperature.detach()
    targets = teacher(batch, {"temperature": temperature}, 0.4)
    right = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    images, texts = targets.candidates["image"][0], targets.candidates["text"][0]
    torch.testing.assert_close(targets.positives["image"], right @ images)
    all_texts = torch.cat(targets.candidates["text"])
    soft = (images @ all_texts.T / temperature).softmax(dim=1)
    torch.testing.assert_close(targets.expected["text"], 0.4 * soft @ all_texts + 0.6 * right @ texts)
    assert targets.to_enqueue(3).keys() == {"image", "text"}  # these queues remember no ids


def test_ids_change_nothing_where_no_pair_comes_twice():
    student, teacher = tiny_models()
    batch = random_batch(5)
    alone = teacher(batch, {"temperature": student.temperature.detach()}, 0.4)
    batch.ids = torch.tensor([5, 9, 2, 0, 2**63 - 1])
    with_ids = teacher(batch, {"temperature": student.temperature.detach()}, 0.4)
    for name in ("image", "text"):
        assert alone.positives[name].equal(with_ids.positives[name])
        assert alone.expected[name].equal(with_ids.expected[name])
    torch.manual_seed(0)
    losses = student(random_batch(5), alone)
    torch.manual_seed(0)
    again = student(random_batch(5), with_ids)
    assert all(losses.each[name].equal(again.each[name]) for name in losses.each)


def test_a_repeated_pair_is_never_its_own_negative():
    """Three rows of one image and one of another: every negative is of the other image."""
    student, teacher = tiny_models()
    batch = random_batch(4)
    batch.ids = torch.tensor([7, 7, 3, 7])
    targets = teacher(batch, {"temperature": student.temperature.detach()}, 0.0)
    logits = torch.randn(4, 4)
    for _ in range(50):
        drawn = draw_batch_negatives(logits, logits, targets.first, targets.batch_ids)
        for negatives in (drawn.images, drawn.texts):
            assert (batch.ids[negatives] != batch.ids).all()


def test_queued_ids_are_written_where_the_features_are():
    _, teacher = tiny_models(ObjectiveConfig(queue_size=5), with_ids=True)
    assert teacher.id_queue.ids.tolist() == [-100] * 5
    for start in (0, 3):
        features = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
        teacher.enqueue({"image": features, "text": features, "id": torch.arange(start, start + 3)})
    assert teacher.id_queue.ids.tolist() == [5, 1, 2, 3, 4]
    assert teacher.image_queue.features[0].equal(features[2]) and teacher.id_queue.pointer == 1


@torch.no_grad()
def test_one_fusion_pass_without_masked_texts_equals_three_separate_ones():
    student, _ = tiny_models(ObjectiveConfig(queue_size=12, mlm_weight=0))
    student.eval()
    encoders, batch = student.encoders, random_batch(3)
    images = encoders.image_encoder(batch.inputs["image"].view)
    texts, masked = encoders.encode_texts(batch.inputs["text"], masked=False)
    negatives = draw_batch_negatives(torch.randn(3, 3), torch.randn(3, 3))
    pairs, fused_masked = student.fuse(images, texts, masked, batch.inputs["text"].mask, negatives)
    assert len(masked) == len(fused_masked) == 0 and pairs.shape == (9, 16)
    everyone = torch.arange(3)
    of_texts = torch.cat([everyone, everyone, negatives.texts])
    of_images = torch.cat([everyone, negatives.images, everyone])
    for pair, t, i in zip(pairs, of_texts, of_images, strict=True):
        image = encoders.fusion_encoder.image_keys_values(images[i][None])
        alone = encoders.fusion_encoder(texts[t][None], batch.inputs["text"].mask[t][None], image)
        torch.testing.assert_close(pair, alone[0, 0])
