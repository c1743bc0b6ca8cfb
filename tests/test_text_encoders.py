"""Transformers encoders of any kind as text encoders, with fusion encoders of their own, against the stock models."""

import copy
from dataclasses import replace

import pytest
import torch
from data_files import TOKENIZER
from tiny import BERT, MODEL, VOCABULARY, random_batch, tiny_models
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from tcl.checkpoints.export_format import ExportConfig, check_self_contained
from tcl.config.model import FusionConfig, ModelConfig, TextEncoderConfig, check_model
from tcl.encoders.dropout import Dropout
from tcl.encoders.text_encoder import check_length, longest_text
from tcl.errors import InputError
from tcl.exports.convert_published import export_published
from tcl.exports.describe import build_student
from tcl.exports.kinds import kind_named
from tcl.exports.pretrained import Pretrained, load_pretrained, save_pretrained
from tcl.models.answer_decoder import answer_decoder_from
from tcl.models.encoders import Encoders, build_encoders
from tcl.typed_section import decode

PAD = 1
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 100}
OVERRIDES = {
    "modernbert": {**SIZES, "intermediate_size": 32, "local_attention": 8, "initializer_range": 0.3},
    "xlm-roberta": {**SIZES, "intermediate_size": 32, **NO_DROPOUT, "initializer_range": 0.3},
    "distilbert": {**SIZES, "hidden_dim": 32, "dropout": 0.0, "attention_dropout": 0.0, "initializer_range": 0.3},
    "mpnet": {**SIZES, "intermediate_size": 32, **NO_DROPOUT, "initializer_range": 0.3},
}
"""ModernBERT's windows are narrower than most texts here."""
ALL = pytest.mark.parametrize("name", OVERRIDES)


def with_tower(name: str, width: int | None = None, *, frozen: bool = False, **fusion) -> ModelConfig:
    text = TextEncoderConfig(name, overrides=OVERRIDES[name], frozen=frozen)
    own = FusionConfig(**{"layers": 2, "width": width, "heads": 4, "overrides": NO_DROPOUT, **fusion})
    return replace(MODEL, text=text, fusion=own)


def built(name: str, **options) -> Encoders:
    torch.manual_seed(1)
    return build_encoders(with_tower(name, **options), VOCABULARY, PAD)


def texts_of(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator, longest = torch.Generator().manual_seed(2), max(lengths)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(2, len(TOKENIZER), (len(lengths), longest), generator=generator)
    return torch.where(mask.bool(), ids, PAD), mask


@ALL
@torch.no_grad()
def test_tokens_are_those_of_the_stock_model(name):
    """Called as its users call it, with a mask of the padding; texts shorter and longer than ModernBERT's windows."""
    encoder = built(name).text_encoder.eval()
    architecture = AutoConfig.for_model(name, vocab_size=VOCABULARY, pad_token_id=PAD, **OVERRIDES[name])
    stock = AutoModel.from_config(architecture).eval()
    assert set(stock.load_state_dict(encoder.bert.state_dict(), strict=False).unexpected_keys) == set()
    for lengths in ([3, 4, 2], [4, 4], [40, 11, 25]):
        ids, mask = texts_of(lengths)
        tokens, expected = encoder(ids, mask), stock(input_ids=ids, attention_mask=mask).last_hidden_state
        assert tokens.shape == (*ids.shape, 16)
        torch.testing.assert_close(tokens[mask.bool()], expected[mask.bool()], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("fusion", [FusionConfig(), FusionConfig(layers=1, width=16, heads=2, overrides=NO_DROPOUT)])
def test_the_mean_of_its_tokens_stands_for_a_text(fusion, frozen):
    """As sentence-transformers pool: the mean over each text's own tokens, [CLS] among them, alone in its place."""
    config = replace(MODEL, text=TextEncoderConfig("bert", overrides=BERT, frozen=frozen), fusion=fusion)
    cls, mean = (
        build_encoders(replace(config, text=replace(config.text, pooling=pooling)), VOCABULARY, PAD).text_encoder.eval()
        for pooling in ("cls", "mean")
    )
    mean.load_state_dict(cls.state_dict())
    ids, mask = texts_of([3, 7, 1])
    expected, tokens = cls(ids, mask), mean(ids, mask)
    for row, own, length in zip(tokens, expected, (3, 7, 1), strict=True):
        torch.testing.assert_close(row[0], sum(own[:length]) / length)
        assert row[1:].equal(own[1:])
    assert tokens.requires_grad == (not frozen)


@ALL
@pytest.mark.parametrize("pad_id", [0, PAD])
@torch.no_grad()
def test_padding_is_not_seen(name, pad_id):
    """Whichever token it is: id 1 is an ordinary word where the tokenizer pads with 0."""
    encoder = build_encoders(with_tower(name), VOCABULARY, pad_id).text_encoder.eval()
    ids, mask = texts_of([30, 5, 12])
    ids = torch.where(mask.bool(), ids, pad_id)
    ids[:, 1] = 1 - pad_id
    for row, length in enumerate([30, 5, 12]):
        alone = encoder(ids[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(encoder(ids, mask)[row, :length], alone[0], rtol=1e-4, atol=1e-5)
    changed = ids.clone()
    changed[1, 2] = 7 if ids[1, 2] != 7 else 8
    assert not torch.allclose(encoder(changed, mask)[1, 0], encoder(ids, mask)[1, 0])  # [CLS] sees the words


@ALL
@pytest.mark.parametrize("width", [16, 32])
def test_a_step_gives_every_trainable_parameter_a_gradient(name, width):
    student, teacher = tiny_models(model=with_tower(name, width))
    batch, before = random_batch(4), copy.deepcopy(student.state_dict())
    optimiser = torch.optim.SGD(student.parameters(), lr=0.1)
    student(batch, teacher(batch, {"temperature": student.temperature.detach()}, 0.4)).total.backward()
    assert [name for name, p in student.named_parameters() if p.requires_grad and p.grad is None] == []
    optimiser.step()
    still = [name for name, tensor in student.state_dict().items() if tensor.equal(before[name])]
    # Keys' biases change nothing that a softmax sees.
    assert [n for n in still if not n.endswith(("key.bias", "k_lin.bias", "k.bias", "padding_idx"))] == []
    assert len(student.encoders.text_encoder.layers) == 3 and student.itm_head.in_features == width


@ALL
def test_dropout_of_the_project(name):
    encoders = built(name)
    parts = [*encoders.text_encoder.modules(), *encoders.fusion_encoder.modules()]
    assert {type(module) for module in parts if isinstance(module, nn.Dropout)} == {Dropout}


@torch.no_grad()
def test_texts_come_to_the_width_of_the_fusion_encoder():
    """By hand: a linear layer before the first layer, in a whole pass as in the two halves of one."""
    encoders = built("modernbert", width=32).eval()
    fusion = encoders.fusion_encoder
    tokens, mask, images = torch.randn(2, 5, 16), torch.ones(2, 5), torch.randn(2, 5, 24)
    images = fusion.image_keys_values(images)
    assert fusion.width == 32 and fusion.text_in.weight.shape == (32, 16)
    expected = tokens @ fusion.text_in.weight.T + fusion.text_in.bias
    for layer, image in zip(fusion.layers, images, strict=True):
        expected = layer(expected, mask.bool()[:, None, None, :], image)
    torch.testing.assert_close(fusion(tokens, mask, images), expected)
    torch.testing.assert_close(fusion.match(fusion.read_texts(tokens, mask), mask, images), expected[:, 0])
    logits = encoders.predict_tokens(expected, torch.tensor([1, 7]))
    head, states = encoders.mlm_head, torch.stack([expected[0, 1], expected[1, 2]])
    states = head.norm(torch.nn.functional.gelu(states @ head.dense.weight.T + head.dense.bias))
    torch.testing.assert_close(logits, states @ encoders.text_encoder.word_embeddings.weight.T + head.bias)
    assert built("modernbert").fusion_encoder.text_in is None


def test_a_fusion_encoder_starts_random():
    fusion = build_encoders(with_tower("mpnet", 128, layers=3), VOCABULARY, PAD).fusion_encoder
    for module in fusion.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1) and not module.bias.any()
    assert len(fusion.layers) == 3 and fusion.layers[0].feed_forward.up.out_features == 512
    assert built("mpnet", heads=None).fusion_encoder.layers[0].self_attention.heads == 1


def bert_folder(folder, **sizes) -> nn.Module:
    torch.manual_seed(4)
    sizes = {**BERT, "hidden_size": 32, "hidden_act": "relu", **sizes}
    architecture = AutoConfig.for_model("bert", vocab_size=60, **sizes)
    bert = AutoModelForMaskedLM.from_config(architecture)
    bert.save_pretrained(folder)
    return bert


def test_a_fusion_encoder_starts_from_the_upper_layers_of_a_bert(tmp_path):
    bert = bert_folder(tmp_path)
    fusion = built("distilbert", pretrained=str(tmp_path), heads=None, overrides={}).fusion_encoder
    assert fusion.width == 32 and len(fusion.layers) == 2
    for ours, theirs in zip(fusion.layers, bert.bert.encoder.layer[2:], strict=True):
        assert ours.self_attention.query.weight.equal(theirs.attention.self.query.weight)
        assert ours.feed_forward.down.weight.equal(theirs.output.dense.weight)
        assert ours.self_attention.heads == 2
    torch.testing.assert_close(
        fusion.layers[0].feed_forward(torch.ones(1, 1, 32)),
        bert.bert.encoder.layer[2].feed_forward_chunk(torch.ones(1, 1, 32)),
    )


@ALL
def test_pretrained_weights_and_head_from_a_folder(name, tmp_path):
    """Where the fusion encoder has the width of the text encoder, its MLM head starts as the text encoder's own."""
    torch.manual_seed(6)
    architecture = AutoConfig.for_model(name, vocab_size=VOCABULARY, pad_token_id=PAD, **OVERRIDES[name])
    stock = AutoModelForMaskedLM.from_config(architecture).eval()
    for parameter in stock.parameters():
        parameter.data.normal_(std=0.1)
    stock.save_pretrained(tmp_path)
    model = with_tower(name)
    model.text = TextEncoderConfig(str(tmp_path), pretrained=True)
    encoders = build_encoders(model, VOCABULARY, PAD).eval()
    ids, mask = texts_of([5, 9])
    with torch.no_grad():
        outputs = stock(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        tokens = encoders.text_encoder(ids, mask)
        logits = encoders.predict_tokens(tokens, torch.tensor([3, 12]))
    expected = torch.stack([outputs.logits[0, 3], outputs.logits[1, 3]])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    model.fusion.width = 32
    assert build_encoders(model, VOCABULARY, PAD).mlm_head.dense.weight.shape == (16, 32)
    with pytest.raises(InputError, match=r"^model\.text\.tokenizer: it has 51 tokens but .* embeds only 50"):
        build_encoders(model, VOCABULARY + 1, PAD)


@pytest.mark.parametrize(
    "model", [with_tower("xlm-roberta", frozen=True), replace(MODEL, text=replace(MODEL.text, frozen=True))]
)
def test_a_frozen_text_encoder_is_never_trained(model):
    """Neither an encoder with all its layers nor the lower half of a BERT; what is tied to it is not, either."""
    model.text.overrides = {**model.text.overrides, "hidden_dropout_prob": 0.5}
    student, teacher = tiny_models(model=model)
    encoder = student.encoders.text_encoder
    batch, before = random_batch(4), copy.deepcopy(student.state_dict())
    for copied in (student.train(), copy.deepcopy(student), copy.deepcopy(student).eval().train()):
        tower = copied.encoders.text_encoder
        assert copied.training and tower.training and not any(module.training for module in tower.bert.modules())
        assert not any(p.requires_grad for p in tower.parameters()) and tower.frozen_parts == [tower.bert]
    first, second = (encoder(batch.inputs["text"].ids, batch.inputs["text"].mask) for _ in range(2))
    assert first.equal(second) and not first.requires_grad
    student(batch, teacher(batch, {"temperature": student.temperature.detach()}, 0.4)).total.backward()
    assert [name for name, p in student.named_parameters() if p.requires_grad and p.grad is None] == []
    torch.optim.SGD(student.parameters(), lr=0.1).step()
    after = student.state_dict()
    part = "encoders.text_encoder."
    assert all(after[name].equal(tensor) for name, tensor in before.items() if name.startswith(part))
    assert not after["encoders.text_proj.weight"].equal(before["encoders.text_proj.weight"])
    assert not after["encoders.mlm_head.bias"].equal(before["encoders.mlm_head.bias"])


def test_what_is_trained_has_no_frozen_parts():
    encoder = built("modernbert").text_encoder
    assert encoder.frozen_parts == [] and all(p.requires_grad for p in encoder.parameters())
    assert encoder.train().bert.training and not encoder.eval().bert.training


@ALL
def test_layers_are_computed_again_in_the_backward_pass(name):
    encoder = built(name).text_encoder.train()
    ids, mask = texts_of([6, 4])
    encoder(ids, mask).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in encoder.named_parameters()}
    if name == "mpnet":
        with pytest.raises(InputError, match=r"^train\.activation_checkpointing: .*\(mpnet\)"):
            encoder.configure_layers(activation_checkpointing=True, fused_attention=True)
        return
    encoder.configure_layers(activation_checkpointing=True, fused_attention=False)
    calls = []
    for layer in encoder.layers:
        next(m for m in layer.modules() if isinstance(m, nn.LayerNorm)).register_forward_pre_hook(
            lambda *_: calls.append(1)
        )
    encoder.zero_grad()
    encoder(ids, mask).square().sum().backward()
    assert len(calls) == 2 * 3
    for parameter, p in encoder.named_parameters():
        torch.testing.assert_close(p.grad, expected[parameter])


def test_the_fusion_encoder_is_computed_again_in_the_backward_pass():
    fusion = built("mpnet", width=32).fusion_encoder
    fusion.configure_layers(activation_checkpointing=True, fused_attention=True)
    assert fusion.activation_checkpointing
    built("mpnet").text_encoder.configure_layers(activation_checkpointing=False, fused_attention=True)
    built("mpnet", frozen=True).text_encoder.configure_layers(activation_checkpointing=True, fused_attention=True)


def test_parameters_that_no_token_depends_on_are_not_trained():
    """LayoutLM's pooler."""
    model = with_tower("xlm-roberta")
    model.text = TextEncoderConfig("layoutlm", overrides=OVERRIDES["xlm-roberta"])
    encoder = build_encoders(model, VOCABULARY, PAD).text_encoder
    ids, mask = texts_of([4])
    encoder(ids, mask).sum().backward()
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert "bert.pooler.dense.weight" not in trained and "bert.encoder.layer.2.output.dense.weight" in trained


@pytest.mark.parametrize(
    ("name", "most"), [("modernbert", None), ("xlm-roberta", 98), ("distilbert", 100), ("mpnet", 98)]
)
@torch.no_grad()
def test_longest_text(name, most):
    encoder = built(name).text_encoder.eval()
    assert longest_text(encoder.bert.config) == most
    ids, mask = texts_of([most or 150])
    assert encoder(ids, mask).shape == (1, most or 150, 16)
    check_length(most or 10**6, encoder.bert.config, "data.max_tokens")
    if most is not None:
        with pytest.raises(
            InputError, match=rf"^data\.max_tokens: {most + 1} is not possible; accepted: at most {most}"
        ):
            check_length(most + 1, encoder.bert.config, "data.max_tokens")
        with pytest.raises((IndexError, RuntimeError)):
            encoder(*texts_of([most + 1]))


@pytest.mark.parametrize("kind", ["tcl", "vqa"])
@pytest.mark.parametrize("width", [16, 32])
@ALL
def test_an_export_gives_back_all_of_it(name, width, kind, tmp_path):
    model = with_tower(name, width)
    model.image = replace(model.image, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.1))
    if name == "modernbert":
        theta = {"rope_type": "default", "rope_theta": 77.0}
        rope = {"rope_parameters": {"full_attention": theta, "sliding_attention": theta}}
        model.text.overrides = {**model.text.overrides, **rope, "layer_types": 3 * ["sliding_attention"]}
    torch.manual_seed(5)
    student = build_student(ExportConfig(kind, model), TOKENIZER)
    save_pretrained(Pretrained(student, TOKENIZER, kind_named(kind, "here"), model, 20, 10), tmp_path / "export")
    loaded = load_pretrained(str(tmp_path / "export"))
    ours, theirs = student.state_dict(), loaded.student.state_dict()
    assert ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours)
    images, (ids, mask) = torch.randn(2, 3, 32, 32), texts_of([9, 15])
    with torch.no_grad():
        first, second = (fused(one.averaged, images, ids, mask) for one in (student, loaded.student))
    assert first.equal(second) and first.shape == (2, 15, width)


def test_what_the_published_code_does_not_have_is_not_exported_for_it(tmp_path):
    model = replace(MODEL, fusion=FusionConfig(layers=2, heads=4))
    model.image = replace(model.image, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.1))
    student = build_student(ExportConfig("tcl", model), TOKENIZER)
    save_pretrained(Pretrained(student, TOKENIZER, kind_named("tcl", "here"), model, 20, 10), tmp_path / "export")
    with pytest.raises(InputError, match=r"^to: the fusion encoder has 2 layers of its own"):
        export_published(str(tmp_path / "export"), tmp_path / "x.pth")


def fused(networks, images, ids, mask) -> torch.Tensor:
    keys_values = networks.fusion_encoder.image_keys_values(networks.image_encoder(images))
    return networks.fusion_encoder(networks.text_encoder(ids, mask), mask, keys_values)


def test_an_export_needs_neither_the_text_encoder_s_folder_nor_the_bert_s(tmp_path):
    bert_folder(tmp_path / "bert", layer_norm_eps=0.01, intermediate_size=48)
    AutoConfig.for_model("mpnet", vocab_size=VOCABULARY, **OVERRIDES["mpnet"]).save_pretrained(tmp_path / "mpnet")
    model = with_tower("mpnet", pretrained=str(tmp_path / "bert"), heads=None, overrides={}, frozen=True)
    model.text = replace(model.text, name=str(tmp_path / "mpnet"), overrides={"vocab_size": len(TOKENIZER)})
    model.image = replace(model.image, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.1))
    student = build_student(ExportConfig("tcl", model), TOKENIZER)
    save_pretrained(Pretrained(student, TOKENIZER, kind_named("tcl", "here"), model, 20, 10), tmp_path / "export")
    for folder in ("bert", "mpnet"):
        (tmp_path / folder / "config.json").unlink()
    loaded = load_pretrained(str(tmp_path / "export"))
    assert str(tmp_path / "mpnet") not in (tmp_path / "export" / "config.json").read_text()
    layer = loaded.student.encoders.fusion_encoder.layers[0]
    assert layer.feed_forward.norm.eps == 0.01 and layer.feed_forward.up.out_features == 48
    assert layer.self_attention.heads == 2 and loaded.student.encoders.text_encoder.frozen
    with torch.no_grad():
        inputs = torch.ones(2, 3, 32, 32), *texts_of([4, 7])
        assert fused(student.eval().averaged, *inputs).equal(fused(loaded.student.averaged, *inputs))


@pytest.mark.parametrize(
    ("text", "fusion"),
    [
        (TextEncoderConfig("modernbert", overrides={"attn_implementation": "kernels/mine"}), FusionConfig(layers=1)),
        (TextEncoderConfig("modernbert", overrides={"_name_or_path": "some/model"}), FusionConfig(layers=1)),
        (TextEncoderConfig("modernbert", overrides={"hidden_activation": "some/code"}), FusionConfig(layers=1)),
        (TextEncoderConfig("modernbert", overrides={"auto_map": {"AutoModel": "a.B"}}), FusionConfig(layers=1)),
        (TextEncoderConfig("modernbert", overrides={"rope_parameters": {"path": "../x"}}), FusionConfig(layers=1)),
        (TextEncoderConfig("modernvbert", overrides={"text_config": {"a": 1}}), FusionConfig(layers=1)),
        (TextEncoderConfig("bert", overrides={"is_decoder": True}), FusionConfig()),
        (TextEncoderConfig("mpnet"), FusionConfig(layers=1, pretrained="some/bert")),
        (TextEncoderConfig("some/model"), FusionConfig(layers=1)),
    ],
)
def test_an_export_that_leads_elsewhere_is_refused(text, fusion, tmp_path):
    with pytest.raises(InputError, match=r"model\.(text|\*)\.\S+ .*(not |: false or null)") as refused:
        check_self_contained(replace(MODEL, text=text, fusion=fusion), tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "width", "words"), [("xlm-roberta", 16, True), ("modernbert", 16, True), ("mpnet", 32, False)]
)
def test_an_answer_decoder_on_a_fusion_encoder_of_its_own(name, width, words):
    """Its embeddings are a trained copy where the widths allow, also of a frozen text encoder's."""
    encoders = built(name, width=width, frozen=True)
    decoder = answer_decoder_from(encoders, layers=3)
    theirs = encoders.text_encoder.word_embeddings.weight
    assert decoder.embeddings.word_embeddings.weight.shape == (VOCABULARY, width)
    assert words == (width == 16 and decoder.embeddings.word_embeddings.weight.equal(theirs))
    assert len(decoder.layers) == 3
    questions = decoder.question_keys_values(torch.randn(2, 5, width), torch.ones(2, 5))
    ids, rows = torch.randint(2, VOCABULARY, (3, 4)), torch.tensor([0, 1, 1])
    decoder.eval()
    states, kept = decoder(ids, questions, rows)
    first, kept = decoder(ids[:, :1], questions, rows)
    rest, _ = decoder(ids[:, 1:], questions, rows, kept)
    torch.testing.assert_close(torch.cat([first, rest], 1), states, rtol=1e-4, atol=1e-5)
    assert decoder.logits(states).shape == (3, 4, VOCABULARY)
    decoder.logits(states).square().sum().backward()
    trained = [p for p in decoder.parameters() if p.requires_grad]
    assert len(trained) == len(list(decoder.parameters())) and theirs.grad is None


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        (FusionConfig(layers=0), r"model\.fusion\.layers: 0 is not possible; accepted: a number of layers, 1 to 1024"),
        (FusionConfig(layers=1025), r"model\.fusion\.layers: 1025 "),
        (FusionConfig(layers=2, width=30, heads=4), r"model\.fusion\.heads: 4 .*divisor of .* 30"),
        (FusionConfig(layers=2, width=0), r"model\.fusion\.width: 0 "),
        (FusionConfig(layers=2, heads=0), r"model\.fusion\.heads: 0 "),
        (FusionConfig(layers=2, overrides={"hidden_size": 8}), r"model\.fusion\.overrides\.hidden_size: 8 "),
        (
            FusionConfig(layers=2, overrides={"intermediate_size": 2**30}),
            r"model\.fusion\.overrides\.intermediate_size",
        ),
        (FusionConfig(width=32), r"model\.fusion\.width: 32 .* unless model\.fusion\.layers is given"),
        (FusionConfig(pretrained="bert"), r"model\.fusion\.pretrained: 'bert' .* unless"),
    ],
)
def test_fusion_sizes_that_cannot_be(fusion, message):
    with pytest.raises(InputError, match=rf"^{message}") as refused:
        check_model(replace(MODEL, fusion=fusion))
    assert "\n" not in str(refused.value)


def test_sections_within_the_overrides_of_texts():
    """rope_parameters of ModernBERT; not deeper, and not of images."""
    rope = {"full_attention": {"rope_type": "default", "rope_theta": 7.0}}
    config = decode(ModelConfig, {"text": {"overrides": {"rope_parameters": rope}}}, "x", {})
    assert config.text.overrides == {"rope_parameters": rope}
    for said in (
        {"text": {"overrides": {"rope_parameters": {"full_attention": {"rope_theta": {"a": 1}}}}}},
        {"text": {"overrides": {"sizes": [{"a": 1}]}}},
        {"image": {"overrides": {"sizes": {"a": 1}}}},
    ):
        with pytest.raises(InputError, match=r"^x: model\.\w+\.overrides\.\S+ is .*accepted: a number, a text, true"):
            decode(ModelConfig, said, "x", {}, "model.")


def test_layers_are_given_away_or_kept():
    text = TextEncoderConfig(overrides=BERT, fusion_layers=2)
    with pytest.raises(InputError, match=r"^model\.text\.fusion_layers: 2 .* beside model\.fusion\.layers"):
        check_model(replace(MODEL, text=text, fusion=FusionConfig(layers=2)))
    check_model(replace(MODEL, fusion=FusionConfig(layers=2)))
    check_model(replace(MODEL, text=text))


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        ({"heads": 5}, r"model\.fusion\.heads: 5 .*divisor of .* 16"),
        ({"heads": None, "width": 100}, None),
        ({"heads": None, "width": 190}, None),
        ({"heads": None, "width": 200}, r"model\.fusion\.heads: 3 .*divisor of .* 200"),
        ({"overrides": {"hidden_act": "no-such"}}, r"model\.fusion\.overrides: .*no-such.* make no layers"),
        ({"overrides": {"intermediate_size": "many"}}, r"model\.fusion\.overrides: .*many.* make no layers"),
        ({"width": 2**16, "layers": 1024}, r"model\.fusion: a network of these sizes takes more than"),
        ({"pretrained": "FOLDER", "layers": 5}, r"model\.fusion\.layers: 5 is not possible; accepted: 1 to 4"),
        ({"pretrained": "FOLDER", "width": 16}, r"model\.fusion\.width: 16 is not possible; accepted: 32, as the"),
        ({"pretrained": "FOLDER", "heads": 8}, r"model\.fusion\.heads: 8 is not possible; accepted: 2, as the"),
        ({"pretrained": "FOLDER/nothing"}, r"model\.fusion: transformers cannot build"),
    ],
)
def test_fusion_encoders_that_cannot_be_built(fusion, message, tmp_path):
    bert_folder(tmp_path)
    if "pretrained" in fusion:
        fusion = {"heads": None, "overrides": {}, **fusion}
        fusion["pretrained"] = fusion["pretrained"].replace("FOLDER", str(tmp_path))
    if message is None:
        built("mpnet", **fusion)
        return
    with pytest.raises(InputError, match=rf"^{message}") as refused:
        built("mpnet", **fusion)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("gpt2", {}, r"'gpt2' \(gpt2\) is no encoder of texts"),
        ("bart", {}, r"'bart' \(bart\) is no encoder of texts"),
        ("vit", {}, r"'vit' \(vit\) is no encoder of texts"),
        ("clip_text_model", {}, r"'clip_text_model' .* reads from left to right"),
        ("fnet", {}, r"'fnet' \(fnet\) looks at padding"),
        ("yoso", {}, r"'yoso' \(yoso\) would fetch code"),
    ],
)
def test_models_that_are_no_encoders(name, sizes, message):
    model = replace(MODEL, fusion=FusionConfig(layers=1, heads=4))
    model.text = TextEncoderConfig(name, overrides={**SIZES, "intermediate_size": 32, **sizes})
    with pytest.raises(InputError, match=rf"^model\.text\.name: {message}") as refused:
        build_encoders(model, VOCABULARY, pad_id=0)
    assert "\n" not in str(refused.value)


def test_what_is_not_built_of_bert_layers_is_told_how_to_be_used():
    with pytest.raises(InputError, match=r"^model\.text\.name: 'modernbert' .*model\.fusion\.layers"):
        build_encoders(replace(with_tower("modernbert"), fusion=FusionConfig()), VOCABULARY, PAD)
