"""Published checkpoints into our format and back: bit-equal, every tensor accounted for, the golden results again.

Round trips and results hold for any golden files of the same form: `TCL_GOLDEN_DIR=folder pytest tests/test_convert.py
-k "round_trip or report or golden"`.
"""

import json
from dataclasses import replace

import pytest
import timm
import torch
import yaml
from data_files import TOKENIZER
from golden_files import NAMES, read_golden, save_tokenizer
from tiny import MODEL
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertModel

from tcl.checkpoints.export_format import ExportConfig
from tcl.checkpoints.initial import PUBLISHED_MEAN, PUBLISHED_STD
from tcl.commands.convert import main
from tcl.errors import InputError
from tcl.evaluation.answering import AnswerList, rank_answers
from tcl.exports.convert_published import export_published, import_published
from tcl.exports.describe import build_student
from tcl.exports.import_bert import import_bert
from tcl.exports.infer_sizes import Heads
from tcl.exports.pretrained import Pretrained, load_pretrained, save_pretrained
from tcl.objectives.tcl import KIND

HEADS = Heads(image=4, text=4)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"), read_golden("pretrain")[2]["bert_config"]["vocab_size"])


def save_pth(path, state: dict[str, Tensor], **others):
    torch.save({"model": state, **others}, path)
    return path


def import_golden(name: str, folder, tokenizer: str, **options):
    """The export of a golden file, and its report."""
    state, _, metadata = read_golden(name)
    heads = Heads(metadata["vision"]["num_heads"], metadata["bert_config"]["num_attention_heads"])
    report = import_published(
        save_pth(folder / f"{name}.pth", state), folder / "export", tokenizer=tokenizer, heads=heads, **options
    )
    return folder / "export", report


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_is_bit_equal(name, tmp_path, tokenizer):
    state = read_golden(name)[0]
    export, _ = import_golden(name, tmp_path, tokenizer, with_teacher=True)
    assert export_published(str(export), tmp_path / "again.pth", with_teacher=True) == len(state)
    again = torch.load(tmp_path / "again.pth", weights_only=True)["model"]
    assert again.keys() == state.keys()
    for key, tensor in state.items():
        assert again[key].dtype == tensor.dtype and again[key].equal(tensor), key


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("with_teacher", [False, True])
def test_report_accounts_for_every_tensor_once(name, with_teacher, tmp_path, tokenizer):
    state = read_golden(name)[0]
    export, report = import_golden(name, tmp_path, tokenizer, with_teacher=with_teacher)
    assert sorted([*report.mapped, *report.ignored]) == sorted(state) and not report.errors
    of_teacher = {key for key in state if "_m." in key or "queue" in key} - set(report.ignored)
    assert bool(of_teacher) == with_teacher
    assert (export / "teacher.safetensors").exists() == with_teacher
    assert json.loads((export / "conversion.json").read_text())["mapped"] == report.mapped


def test_golden_similarity_logits_of_an_export(tmp_path, tokenizer):
    """Of the saved and loaded model; the candidates come from its teacher."""
    _, tensors, metadata = read_golden("pretrain")
    export, _ = import_golden("pretrain", tmp_path, tokenizer, with_teacher=True)
    loaded = load_pretrained(str(export), with_teacher=True)
    teacher = load_pretrained(str(export)).student
    own = teacher.state_dict()
    teacher.load_state_dict(own | {key: tensor for key, tensor in loaded.teacher.items() if key in own})

    def features(student, image):
        encoders = student.encoders
        text = encoders.text_encoder(tensors["in.input_ids"], tensors["in.attention_mask"])
        return encoders.project_image(encoders.image_encoder(image)[:, 0]), encoders.project_text(text[:, 0])

    # The published step first lets the teacher follow the student.
    with torch.no_grad():
        for ours, theirs in zip(loaded.student.encoders.parameters(), teacher.encoders.parameters(), strict=True):
            theirs.lerp_(ours, 1 - metadata["config"]["momentum"])
        image, text = features(loaded.student, tensors["in.image"])
        image_m, text_m = features(teacher, tensors["in.image_aug"])
    temperature = loaded.student.temperature.detach()
    i2t = image @ torch.cat([text_m, loaded.teacher["text_queue.features"]]).T / temperature
    t2i = text @ torch.cat([image_m, loaded.teacher["image_queue.features"]]).T / temperature
    for found, name in ((i2t, "out.sim_i2t"), (t2i, "out.sim_t2i")):
        assert float((found - tensors[name]).norm() / tensors[name].norm()) < 1e-4
    assert loaded.student.encoders.image_encoder.mean == PUBLISHED_MEAN
    assert loaded.student.encoders.image_encoder.std == PUBLISHED_STD


def test_golden_ranked_answers_of_an_export(tmp_path, tokenizer):
    _, tensors, metadata = read_golden("vqa")
    export, _ = import_golden("vqa", tmp_path, tokenizer)
    loaded = load_pretrained(str(export))
    assert (loaded.kind.name, loaded.max_tokens, loaded.max_words) == ("vqa", 25, 50)
    networks = loaded.student.networks
    assert len(networks.decoder.layers) == metadata["decoder_layers"]
    answers = AnswerList(tensors["rank.candidate_ids"], tensors["rank.candidate_mask"].sum(dim=1))
    with torch.no_grad():
        questions = networks.read_questions(
            tensors["in.image"], tensors["in.question_ids"], tensors["in.question_mask"]
        )
    ids, probabilities = rank_answers(networks.decoder, questions, answers, metadata["k"], 1000)
    assert ids.equal(tensors["rank.topk_ids"])
    torch.testing.assert_close(probabilities, tensors["rank.topk_probs"], rtol=0, atol=1e-4)


def test_a_model_without_mlm_head_is_saved_and_loaded_without_it(tmp_path, tokenizer):
    export, report = import_golden("retrieval", tmp_path, tokenizer)
    loaded = load_pretrained(str(export))
    assert loaded.lacks == ("encoders.mlm_head.",) and loaded.max_tokens == 30
    assert "source: it has no MLM head, and the export has none either" in report.notices


def test_ddp_prefix_half_precision_and_no_teacher(tmp_path, tokenizer):
    """As some publish them: fewer tensors, other names, 16 bits."""
    state = read_golden("pretrain")[0]
    kept = {key: tensor for key, tensor in state.items() if "_m." not in key and "queue" not in key}
    half = {f"module.{key}": t.half() if t.is_floating_point() else t for key, t in kept.items()}
    source = save_pth(tmp_path / "half.pth", half, epoch=3, config={"lr": 0.1})
    import_published(source, tmp_path / "export", tokenizer=tokenizer, heads=HEADS)
    found = load_pretrained(str(tmp_path / "export")).student.state_dict()
    assert found["temperature"].equal(state["temp"].half().float().reshape(1))
    weight = found["encoders.fusion_encoder.layers.1.feed_forward.down.weight"]
    assert weight.dtype == torch.float32
    assert weight.equal(state["text_encoder.bert.encoder.layer.3.output.dense.weight"].half().float())
    with pytest.raises(InputError, match=r"^with_teacher: .* holds no momentum weights"):
        import_published(source, tmp_path / "export", tokenizer=tokenizer, heads=HEADS, with_teacher=True)


def test_another_resolution_interpolates_student_and_teacher(tmp_path, tokenizer):
    state = read_golden("pretrain")[0]
    export, report = import_golden("pretrain", tmp_path, tokenizer, with_teacher=True, image_size=96)
    loaded = load_pretrained(str(export), with_teacher=True)
    assert loaded.model.image.image_size == 96
    both = {"visual_encoder": loaded.student.state_dict(), "visual_encoder_m": loaded.teacher}
    for theirs, ours in both.items():
        positions = state[f"{theirs}.pos_embed"]
        grid = positions[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(grid, size=(6, 6), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
        expected = torch.cat([positions[:, :1], resized.flatten(1, 2)], dim=1)
        torch.testing.assert_close(ours["encoders.image_encoder.vit.pos_embed"], expected)
    assert report.notices == 2 * ["image_size: position embeddings interpolated from 4 x 4 to 6 x 6"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 100}, r"image_size: 100 is not a multiple of the patch size 16"),
        ({"heads": Heads(text=4)}, r"^image_heads: not given, and no tensor tells .* a width of 32; give it"),
        ({"heads": Heads(image=4)}, r"^text_heads: not given, .* a width of 24"),
        ({"heads": Heads(image=5, text=4)}, r"^image_heads: 5 is not possible; accepted: a divisor of the width 32"),
        ({"tokenizer": "nowhere/at-all"}, r"^tokenizer: 'nowhere/at-all' cannot be loaded"),
    ],
)
def test_impossible_options(options, message, tmp_path, tokenizer):
    source = save_pth(tmp_path / "x.pth", read_golden("pretrain")[0])
    with pytest.raises(InputError, match=message) as refused:
        import_published(source, tmp_path / "export", **{"tokenizer": tokenizer, "heads": HEADS, **options})
    assert "\n" not in str(refused.value) and not (tmp_path / "export" / "config.json").exists()


def test_a_tokenizer_of_another_size_is_said(tmp_path):
    larger, smaller = (save_tokenizer(tmp_path / str(size), size) for size in (98, 50))
    with pytest.raises(InputError, match=r"it has 98 tokens but 'bert' embeds only 97"):
        import_golden("pretrain", tmp_path, larger)
    _, report = import_golden("pretrain", tmp_path, smaller)
    assert report.notices == [f"tokenizer: {smaller} has 50 tokens, the weights embed 97"]


@pytest.mark.parametrize(
    ("name", "tensor", "why"),
    [
        ("surprise.weight", torch.zeros(1), "unknown tensor"),
        ("text_encoder.bert.encoder.layer.3.surprise.weight", torch.zeros(1), "unknown tensor"),
        ("text_encoder.bert.encoder.layer.0.surprise.weight", torch.zeros(1), "has no place in the model"),
        ("visual_encoder.norm.weight", torch.zeros(5), r"is \(5,\), in the model \(32,\)"),
        ("visual_encoder_m.norm.weight", torch.zeros(5), r"is \(5,\), in the model \(32,\)"),
        ("image_queue", torch.zeros(5), r"its shape is \(5,\)"),
        ("temp", torch.zeros(2, 2), r"its shape is \(2, 2\)"),
        ("queue_ptr", torch.zeros(3), r"its shape is \(3,\)"),
        ("text_encoder.cls.predictions.decoder.weight", torch.zeros(97, 24), "should be tied"),
    ],
)
def test_tensors_without_use_are_errors_that_the_report_lists(name, tensor, why, tmp_path, tokenizer):
    state = read_golden("pretrain")[0] | {name: tensor, "another.surprise": torch.zeros(1)}
    if "in the model" in why or "no place" in why:
        state.pop("another.surprise")  # shapes are compared only once all names are known
    source = save_pth(tmp_path / "x.pth", state)
    with pytest.raises(InputError, match=rf"^source: \d of the tensors .* {why}"):
        import_published(source, tmp_path / "export", tokenizer=tokenizer, heads=HEADS, with_teacher=True)
    errors = json.loads((tmp_path / "export" / "conversion.json").read_text())["errors"]
    assert set(errors) == {name} | ({"another.surprise"} & set(state))
    assert not (tmp_path / "export" / "config.json").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text_proj.bias", r"encoders\.text_proj\.bias is not there"),
        ("visual_encoder.pos_embed", r"visual_encoder\.pos_embed is not there; accepted: 3 dimensions"),
    ],
)
def test_a_missing_tensor_is_named(name, said, tmp_path, tokenizer):
    state = read_golden("pretrain")[0]
    del state[name]
    with pytest.raises(InputError, match=rf"^source: .*{said}"):
        import_published(save_pth(tmp_path / "x.pth", state), tmp_path / "out", tokenizer=tokenizer, heads=HEADS)


def test_networks_that_the_published_code_does_not_have(tmp_path):
    roberta = replace(MODEL, text=replace(MODEL.text, name="roberta"))
    with_registers = replace(MODEL, image=replace(MODEL.image, overrides={**MODEL.image.overrides, "reg_tokens": 1}))
    for model, message in ((roberta, "is a roberta"), (with_registers, "vit.reg_token has no name")):
        student = build_student(ExportConfig("tcl", model), TOKENIZER)
        save_pretrained(Pretrained(student, TOKENIZER, KIND, model, 25, 30, card="x"), tmp_path / "export")
        with pytest.raises(InputError, match=message):
            export_published(str(tmp_path / "export"), tmp_path / "x.pth")


BERT = BertConfig(
    vocab_size=60,
    hidden_size=16,
    num_hidden_layers=4,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=40,
)


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM, BertForPreTraining])
def test_a_stock_bert_becomes_text_and_fusion_encoder(kind, tmp_path):
    torch.manual_seed(3)
    bert = kind(BERT)
    bert.save_pretrained(tmp_path / "bert")
    save_tokenizer(tmp_path / "bert", 60)
    report = import_bert(tmp_path / "bert", tmp_path / "export", MODEL)
    loaded = load_pretrained(str(tmp_path / "export"))
    found = loaded.student.state_dict()
    base = bert if kind is BertModel else bert.bert
    theirs = base.state_dict()
    assert found["encoders.text_encoder.bert.embeddings.word_embeddings.weight"].equal(
        theirs["embeddings.word_embeddings.weight"]
    )
    assert found["encoders.text_encoder.bert.encoder.layer.1.output.dense.bias"].equal(
        theirs["encoder.layer.1.output.dense.bias"]
    )
    assert found["encoders.fusion_encoder.layers.0.self_attention.query.weight"].equal(
        theirs["encoder.layer.2.attention.self.query.weight"]
    )
    if kind is not BertModel:
        assert found["encoders.mlm_head.dense.weight"].equal(bert.cls.predictions.transform.dense.weight)
    assert not any("pooler" in name for name in report.mapped) and not report.errors
    random = report.notices[-1]
    assert "cross-attention" in random and "encoders.image_encoder" in random
    assert ("encoders.mlm_head" in random) == (kind is BertModel)
    assert len(loaded.tokenizer) == 60


def save_bert(folder, change=None, **sizes):
    """As first published: a pickle, tied copies, LayerNorm.gamma."""
    torch.manual_seed(3)
    bert = BertForMaskedLM(BERT)
    state = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): t.clone() for name, t in bert.state_dict().items()}
    state["bert.embeddings.position_ids"] = torch.arange(40)[None]
    BertConfig(**{**BERT.to_dict(), **sizes}).save_pretrained(folder)
    save_tokenizer(folder, 60)
    torch.save(state | (change or {}), folder / "pytorch_model.bin")
    return bert, state


def test_a_bert_as_first_published(tmp_path):
    bert, state = save_bert(tmp_path / "bert")
    report = import_bert(tmp_path / "bert", tmp_path / "export", MODEL)
    assert sorted([*report.mapped, *report.ignored]) == sorted(name.replace("gamma", "weight") for name in state)
    found = load_pretrained(str(tmp_path / "export")).student.state_dict()
    theirs = bert.bert.encoder.layer[3].output.LayerNorm.weight
    assert found["encoders.fusion_encoder.layers.1.feed_forward.norm.weight"].equal(theirs)


@pytest.mark.parametrize(
    ("change", "sizes", "message"),
    [
        ({"lm_head.x": torch.zeros(1)}, {}, r"the first is lm_head\.x: .* has no place"),
        ({"bert.encoder.layer.3.x.weight": torch.zeros(1)}, {}, r"bert\.encoder\.layer\.3\.x\.weight: unknown tensor"),
        ({"cls.predictions.decoder.bias": torch.ones(60)}, {}, r"should be tied"),
        ({}, {"intermediate_size": 48}, r"is \(32, 16\), in the model \(48, 16\)"),
        ({}, {"num_hidden_layers": 6}, r"not all of the weights of encoders\.fusion_encoder"),
    ],
)
def test_a_bert_with_other_tensors_is_refused(change, sizes, message, tmp_path):
    save_bert(tmp_path / "bert", change, **sizes)
    with pytest.raises(InputError, match=rf"^source: .*{message}") as refused:
        import_bert(tmp_path / "bert", tmp_path / "export", MODEL)
    assert "\n" not in str(refused.value)


def test_command_line_joins_a_bert_and_weights_of_timm(tmp_path, capsys):
    save_bert(tmp_path / "bert")
    torch.manual_seed(4)
    sizes = {"embed_dim": 24, "depth": 2, "num_heads": 2}
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, **sizes)
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    image = {"name": "vit_tiny_patch16_224", "image_size": 32, "overrides": sizes}
    image["pretrained"] = str(tmp_path / "vit.pth")
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"model": {"image": image, "embed_dim": 8}, "seed": 1}))
    config = ["--config", str(tmp_path / "model.yaml")]
    main(["--from", "hf-bert", str(tmp_path / "bert"), str(tmp_path / "export"), *config])
    said = capsys.readouterr().out
    assert "encoders.image_encoder: timm's weights" in said and "random, to be trained: cross-attention," in said
    loaded = load_pretrained(str(tmp_path / "export"))
    ours = loaded.student.encoders.image_encoder.vit.state_dict()
    assert all(ours[name].equal(tensor) for name, tensor in vit.state_dict().items())
    assert loaded.model.embed_dim == 8 and loaded.model.image.pretrained is False
    (tmp_path / "model.yaml").write_text("model: {image: {sise: 3}}")
    with pytest.raises(InputError, match=r"model\.yaml: model\.image\.sise is not known"):
        main(["--from", "hf-bert", "a", "b", *config])


def test_folders_that_are_no_bert(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"^source: .*empty has no config\.json of a BERT"):
        import_bert(tmp_path / "empty", tmp_path / "out", MODEL)
    BERT.save_pretrained(tmp_path / "empty")
    save_tokenizer(tmp_path / "empty", 60)
    with pytest.raises(InputError, match=r"^source: .*empty holds no weights"):
        import_bert(tmp_path / "empty", tmp_path / "out", MODEL)


def test_command_line_there_and_back(tmp_path, tokenizer, capsys):
    state = read_golden("pretrain")[0]
    source, export = save_pth(tmp_path / "TCL.pth", state), tmp_path / "export"
    heads = ["--image_heads", "4", "--text_heads", "4", "--tokenizer", tokenizer]
    main(["--from", "tcl", str(source), str(export), *heads])
    said = capsys.readouterr().out
    mapped = sum("_m." not in key and "queue" not in key and "position_ids" not in key for key in state) - 2
    assert f"{mapped} tensors mapped, {len(state) - mapped} ignored:" in said
    main(["--to", "tcl", str(export), str(tmp_path / "again.pth")])
    again = torch.load(tmp_path / "again.pth", weights_only=True)["model"]
    assert all(again[key].equal(state[key]) for key in again) and "_m." not in " ".join(again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "tcl", "a", "b", "--image_size", "96"], "image_size: has no meaning with --to tcl"),
        (["--from", "tcl", "a", "b", "--config", "c"], "config: has no meaning with --from tcl"),
        (["--from", "hf-bert", "a", "b", "--text_heads", "2"], "text_heads: has no meaning with --from hf-bert"),
        (["--from", "hf-bert", "a", "b", "--config", "nowhere.yaml"], "config: 'nowhere.yaml' cannot be read"),
        (["--from", "tcl", "nowhere.pth", "b"], "source: nowhere.pth cannot be read"),
    ],
)
def test_command_line_refuses(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        main(arguments)
    assert not list(tmp_path.iterdir())


TASKS = {"entailment": ("ve", "state."), "nlvr": ("nlvr", "state."), "text_assignment": ("nlvr", "ta.state.")}


@pytest.mark.parametrize("kind", list(TASKS))
def test_checkpoints_of_tasks_go_in_and_out(kind, tmp_path):
    """Bit-equal; numbers of positions, which transformers no longer saves, are written as the published code did."""
    name, prefix = TASKS[kind]
    _, tensors, metadata = read_golden(f"tasks/{name}")
    state = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    words = save_tokenizer(tmp_path / "tokenizer", metadata["bert_config"]["vocab_size"])
    heads = Heads(metadata["vision"]["num_heads"], metadata["bert_config"]["num_attention_heads"])
    source, with_teacher = save_pth(tmp_path / "source.pth", state), kind != "text_assignment"
    report = import_published(source, tmp_path / "export", tokenizer=words, heads=heads, with_teacher=with_teacher)
    assert sorted([*report.mapped, *report.ignored]) == sorted(state) and not report.errors
    loaded = load_pretrained(str(tmp_path / "export"))
    assert loaded.kind.name == kind and loaded.max_words == 30
    export_published(str(tmp_path / "export"), tmp_path / "again.pth", with_teacher=with_teacher)
    again = torch.load(tmp_path / "again.pth", weights_only=True)["model"]
    assert {key for key in again.keys() - state.keys() if not key.endswith(".position_ids")} == set()
    for key, tensor in state.items():
        assert again[key].dtype == tensor.dtype and again[key].equal(tensor), key


def test_pairs_of_layers_that_do_not_share_their_keys_are_refused(tmp_path):
    _, tensors, metadata = read_golden("tasks/nlvr")
    state = {key.removeprefix("state."): tensor for key, tensor in tensors.items() if key.startswith("state.")}
    first = metadata["text_layers"]
    state[f"text_encoder.encoder.layer.{first + 3}.crossattention.self.value.bias"] += 1
    words = save_tokenizer(tmp_path / "tokenizer", metadata["bert_config"]["vocab_size"])
    shared = rf"text_encoder\.encoder\.layer\.{first + 2}\.crossattention\.self\.value\.bias"
    with pytest.raises(InputError, match=rf"differs from {shared}, to which it should be tied"):
        import_published(
            save_pth(tmp_path / "source.pth", state), tmp_path / "export", tokenizer=words, heads=Heads(2, 4)
        )
