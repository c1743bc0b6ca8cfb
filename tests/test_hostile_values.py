"""Every field of every configuration, with every value that it is not for: one line, or a configuration that holds."""

import math
from functools import partial

import pytest
from data_files import write_shards
from tiny import BERT, VOCABULARY

from tcl.commands.task_options import parse_pretrain
from tcl.config.command_line import Given, resolve
from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig, check_model
from tcl.encoders.text_encoder import check_length
from tcl.errors import InputError
from tcl.models.encoders import build_encoders
from tcl.tasks import task_named, task_names
from tcl.tasks.pretrain import Config as PretrainConfig
from tcl.tasks.pretrain import check as check_pretrain
from tcl.typed_section import options_of

MODULES = [task_named(name) for name in task_names()]
CONFIGS = [(PretrainConfig, check_pretrain), *((module.Config, module.check) for module in MODULES)]
HOSTILE = [
    *(None, True, False, 0, 1, -1, 2**53, 2**63, 10**400, 0.5, -0.5, 1e300, -1e300, math.nan, math.inf),
    *("", "x", "a\0b", "x" * 300, "x" * 20_000, "/", "/dev/null", "\ud800"),
    *([], [None], [0], ["x"], [[1]], [0, 0], [0, 0, 0], [-1.0] * 4, [math.nan] * 3, [2**53] * 3),
    *({}, {"a": 1}, {"a": {"b": 1}}, {"class_path": "subprocess.Popen", "init_args": {"args": "x"}}),
]
NEVER_NULL = ("seed", "output_dir", "data.max_tokens", "optim.lr", "model.embed_dim", "train.batch_size", "eval.every")


def said_of(field: str, value: object) -> Given:
    for name in reversed(field.split(".")):
        value = {name: value}
    return Given("", value)


@pytest.mark.parametrize(("kind", "check"), CONFIGS, ids=lambda value: getattr(value, "__module__", "?"))
def test_every_value_in_every_field(kind, check, tmp_path):
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    needed = {"data.train": write_shards(tmp_path / "shards", [4])}
    names_in = [field for field in ("classes.list", "classes") if field in options_of(kind)]
    needed |= dict.fromkeys(names_in[:1], str(tmp_path / "names.txt"))
    if "optim.lr" not in options_of(kind):  # a task that trains nothing
        check = partial(check, trains=False)
    base = [said_of(field, value) for field, value in needed.items()]
    for field in options_of(kind):
        for value in HOSTILE:
            try:
                resolve([*base, said_of(field, value)], kind, check)
            except InputError as error:
                said = str(error)
                assert "\n" not in said and len(said) < 6000
                near = field.rpartition(".")[0]
                assert field in said or near in said or "shards" in said or "output_dir" in said, (field, value, said)
    for field in set(NEVER_NULL) & set(options_of(kind)):
        with pytest.raises(InputError, match=rf"^{field} is None"):
            resolve([*base, said_of(field, None)], kind, check)


@pytest.mark.parametrize("part", ["image", "text"])
@pytest.mark.parametrize(
    "overrides",
    [
        *({"embed_dim": 2**24}, {"depth": 1024, "embed_dim": 2**14}, {"depth": 10**9}, {"num_heads": 0}, {"depth": -1}),
        *({"embed_dim": None}, {"embed_dim": "x"}, {"embed_dim": [1]}, {"patch_size": 0}, {"patch_size": "x"}),
        *({"hidden_size": 2**20}, {"num_hidden_layers": 0}, {"num_hidden_layers": 10**9}, {"num_attention_heads": 0}),
        *({"vocab_size": 2**24, "hidden_size": 2**12}, {"hidden_act": "os.system"}, {"hidden_act": [1]}),
        *(
            {"layer_norm_eps": None},
            {"intermediate_size": -1},
            {"norm_layer": "os.system"},
            {"class_path": "os.system"},
        ),
    ],
    ids=str,
)
def test_overrides_that_no_network_has(part, overrides):
    """One line, and none of it takes memory: the largest would take terabytes."""
    sizes = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    image = ImageEncoderConfig("vit_tiny_patch16_224", image_size=32, overrides=sizes)
    model = ModelConfig(image, TextEncoderConfig(overrides=BERT), embed_dim=8)
    getattr(model, part).overrides = getattr(model, part).overrides | overrides
    try:
        check_model(model)
        build_encoders(model, VOCABULARY, 0)
    except InputError as error:
        assert "\n" not in str(error) and str(error).startswith("model.")
    else:  # the other encoder's size, which transformers keeps, and null, which timm takes for nothing said
        assert (part == "text" and not overrides.keys() & BERT.keys()) or list(overrides.values()) == [None]


@pytest.mark.parametrize("name", ["pit_ti_224", "coat_tiny", "efficientvim_m1", "nope", "", "a:b"])
def test_image_encoders_that_give_no_grid(name):
    with pytest.raises(InputError, match=r"^model\.image") as refused:
        build_encoders(ModelConfig(ImageEncoderConfig(name), TextEncoderConfig(overrides=BERT)), VOCABULARY, 0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["gpt2", "clip", "llama", "albert", "modernbert", "t5", "nope", "", "a/b"])
def test_text_encoders_that_are_no_bert(name):
    image = ImageEncoderConfig("vit_tiny_patch16_224", image_size=32, overrides={"embed_dim": 24, "depth": 1})
    image.overrides["num_heads"] = 2
    with pytest.raises(InputError, match=r"^model\.text") as refused:
        build_encoders(ModelConfig(image, TextEncoderConfig(name, overrides=BERT)), VOCABULARY, 0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "positions", "most"), [("bert", 512, 512), ("roberta", 512, 510), ("bert", 40, 40)])
def test_longest_text(name, positions, most):
    """What is accepted has a position for every token, which the model itself is asked; one more has none."""
    import torch

    image = ImageEncoderConfig("vit_tiny_patch16_224", image_size=32, overrides={"embed_dim": 24, "depth": 1})
    image.overrides["num_heads"] = 2
    sizes = {**BERT, "max_position_embeddings": positions}
    encoder = build_encoders(ModelConfig(image, TextEncoderConfig(name, overrides=sizes)), VOCABULARY, 1).text_encoder
    ids = torch.full((1, most), 5)
    assert encoder(ids, torch.ones_like(ids)).shape == (1, most, 16)
    check_length(most, encoder.bert.config, "data.max_tokens")
    with pytest.raises(InputError, match=rf"^data\.max_tokens: {most + 1} is not possible; accepted: at most {most}"):
        check_length(most + 1, encoder.bert.config, "data.max_tokens")
    longer = torch.full((1, most + 1), 5)
    with pytest.raises((IndexError, RuntimeError)):
        encoder(longer, torch.ones_like(longer))


def test_sources_may_be_plain_texts(tmp_path):
    first, second = (write_shards(tmp_path / name, [4]) for name in ("a", "b"))
    assert [s.shards for s in parse_pretrain(["--data.train", first]).data.train] == [first]
    assert [s.shards for s in parse_pretrain(["--data.train", first, second]).data.train] == [first, second]
    assert [s.shards for s in parse_pretrain([f"--data.train=[{first}, {second}]"]).data.train] == [first, second]


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--train.batchsize", "--train.batch_size"),
        ("--batch_size", "--eval.batch_size|--train.batch_size"),
        ("--optim.learning_rate", "`tcl pretrain --help`"),
        ("--modle.embed_dim", "--model.embed_dim"),
    ],
)
def test_unknown_options_name_the_nearest(option, meant):
    with pytest.raises(InputError, match=rf"^config: there is no option {option}; .*({meant})"):
        parse_pretrain([option, "3"])
