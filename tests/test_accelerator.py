"""Settings for DeepSpeed that cannot be used stop a run in one line."""

import sys

import pytest

from tcl.config.train import TrainConfig
from tcl.errors import InputError
from tcl.tasks.pretrain import Config as PretrainConfig
from tcl.training.accelerator import _read_settings, _settings_file, build_accelerator


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            None,
            r"^train\.deepspeed: .*deepspeed\.json cannot be read \(No such file or directory\); try zero2, which",
        ),
        ("{", r"^train\.deepspeed: .*deepspeed\.json is not JSON \(.*\)$"),
        ("[]", r'^train\.deepspeed: .* has no "zero_optimization"; start from one of those in tcl/presets/deepspeed$'),
        ('{"bf16": {}}', r'^train\.deepspeed: .* has no "zero_optimization"; '),
    ],
)
def test_unusable_deepspeed_settings(tmp_path, content, said):
    path = tmp_path / "deepspeed.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=said):
        build_accelerator(PretrainConfig(output_dir=str(tmp_path), train=TrainConfig(deepspeed=str(path))))


@pytest.mark.parametrize("said", ["zero2", "configs/deepspeed/zero2.json"])
def test_settings_of_the_package_by_name_and_by_path(said):
    assert _read_settings(_settings_file(said))["zero_optimization"]["stage"] == 2


def test_a_name_that_no_settings_have(tmp_path):
    with pytest.raises(
        InputError,
        match=r"^train\.deepspeed: there is no preset 'zero4'; did you mean zero\d\? accepted: zero1, zero2, ",
    ):
        build_accelerator(PretrainConfig(output_dir=str(tmp_path), train=TrainConfig(deepspeed="zero4")))


def test_deepspeed_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    config = PretrainConfig(output_dir=str(tmp_path), train=TrainConfig(deepspeed="configs/deepspeed/zero2.json"))
    with pytest.raises(
        InputError, match=r"^train\.deepspeed: .*zero2\.json, but DeepSpeed cannot be imported .*deepspeed"
    ):
        build_accelerator(config)


def test_a_tower_that_remembers_is_no_pieces(tmp_path):
    config = PretrainConfig(output_dir=str(tmp_path), train=TrainConfig(deepspeed="zero3"))
    config.model.text.remember = 7
    with pytest.raises(InputError, match=r"^model\.text\.remember: 7 is not possible under ZeRO 3; accepted: 0, or"):
        build_accelerator(config)
