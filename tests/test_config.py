"""Bad configurations stop before anything is loaded, naming the field, the value and what would be right."""

from pathlib import Path

import pytest
from data_files import write_shards

from tcl.commands.task_options import parse_pretrain
from tcl.config.command_line import save_config
from tcl.errors import InputError
from tcl.tasks.pretrain import Config as PretrainConfig


@pytest.fixture
def shards(tmp_path: Path) -> str:
    return write_shards(tmp_path / "shards", [4])


def parse(shards: str, *arguments: str) -> PretrainConfig:
    return parse_pretrain([f"--data.train=[{{'shards': '{shards}'}}]", *arguments])


def test_yaml_then_command_line(shards, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(f"data: {{train: [{{shards: '{shards}', weight: 2}}]}}\ntrain: {{steps: 7, batch_size: 3}}\n")
    config = parse_pretrain(
        ["--config", str(file), "--train.steps", "9", "--model.image.name", "vit_small_patch16_224"]
    )
    assert (config.train.steps, config.train.batch_size, config.data.train[0].weight) == (9, 3, 2.0)
    assert config.model.image.name == "vit_small_patch16_224"


def test_saved_config_reads_back_the_same(shards, tmp_path):
    config = parse(shards, "--optim.betas", "[0.8,0.9]", "--model.text.overrides", "{num_hidden_layers: 4}")
    save_config(config, tmp_path / "config.yaml")
    assert parse_pretrain(["--config", str(tmp_path / "config.yaml")]) == config


@pytest.mark.parametrize("path", sorted(Path("configs/pretrain").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_are_valid_but_for_their_data(path):
    with pytest.raises(InputError, match=r"shards .*(no file matches|does not exist)"):
        parse_pretrain(["--config", str(path), "--data.train=[{'shards': 'nowhere/*.tar'}]"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train.stepz", "3"], r"train\.stepz"),
        (["--train.steps", "many"], r"train\.steps.*many"),
        (["--train.precision", "fp8"], r"train\.precision is 'fp8'; accepted: auto, bf16, fp32"),
        (["--objective.queue_size", "0"], r"objective\.queue_size: 0 .*>= 1"),
        (["--train.batch_size", "1"], r"train\.batch_size: 1 .*itm_weight.*at least 2"),
        (["--model.image.image_size", "250"], r"model\.image\.image_size: 250 .*multiple of the patch size 16.*256"),
        (["--objective.alpha", "1.5"], r"objective\.alpha: 1\.5 .*0 to 1"),
        (["--objective.momentum", "-0.1"], r"objective\.momentum: -0\.1 .*0 to 1"),
        (["--objective.itm_hardness", "-1"], r"objective\.itm_hardness: -1.*0"),
        (["--objective.temperature", "0"], r"objective\.temperature: 0.* 0\.001 to 0\.5"),
        (["--objective.mlm_probability", "1"], r"objective\.mlm_probability: 1"),
        (["--objective.itm_weight", "-1"], r"objective\.itm_weight: -1"),
        ([f"--objective.{n}_weight=0" for n in ("cma", "imc", "lmi", "itm", "mlm")], r"objective: all of"),
        (["--data.max_tokens", "1"], r"data\.max_tokens: 1 .*>= 2"),
        (["--data.max_bad_fraction", "2"], r"data\.max_bad_fraction: 2"),
        (["--data.workers", "-1"], r"data\.workers: -1 .*>= 0"),
        (["--data.augment.crop_scale", "[0.9,0.2]"], r"crop_scale: \(0\.9, 0\.2\).*low <= high"),
        (["--data.augment.color_jitter", "[0.1,0.1,0.1,0.9]"], r"color_jitter.*hue 0 to 0\.5"),
        (["--data.augment.blur_prob", "-1"], r"blur_prob: -1"),
        (["--data.augment.randaugment_magnitude", "11"], r"randaugment_magnitude: 11 .*0 to 10"),
        (["--optim.lr", "0"], r"optim\.lr: 0"),
        (["--optim.min_lr", "1"], r"optim\.min_lr: 1.*0 to lr"),
        (["--optim.betas", "[0.9,1.0]"], r"optim\.betas: \(0\.9, 1\.0\)"),
        (["--optim.clip_grad_norm", "0"], r"optim\.clip_grad_norm: 0"),
        (["--data.train=[]"], r"data\.train: no sources"),
        (["--data.val", "nowhere/*.tar"], r"nowhere/\*\.tar.*no file matches"),
        (["--config", "nowhere.yaml"], r"nowhere\.yaml"),
    ],
)
def test_bad_value(shards, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        parse(shards, *arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("modle: {embed_dim: 3}", "modle"),
        ("model: {image: {nam: vit}}", "nam"),
        ("data: {train: [{shards: x.tar, wieght: 3}]}", "wieght"),
        ("data: {train: [{weight: 3}]}", "shards"),
        ("train: [1, 2", "."),
    ],
)
def test_bad_yaml(tmp_path, yaml, message):
    file = tmp_path / "run.yaml"
    file.write_text(yaml)
    with pytest.raises(InputError, match=message) as caught:
        parse_pretrain(["--config", str(file)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", ["1, null", "1, 0", "1, -2"])
def test_weights_for_all_sources_or_none(shards, weights):
    first, second = weights.split(", ")
    sources = f"[{{'shards': '{shards}', 'weight': {first}}}, {{'shards': '{shards}', 'weight': {second}}}]"
    with pytest.raises(InputError, match=r"data\.train: weights"):
        parse_pretrain([f"--data.train={sources}"])
