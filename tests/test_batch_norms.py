"""Image encoders with batch norms: what these saw is saved, resumed, exported, and the same for all processes."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from data_files import write_shards
from launching import launch
from safetensors.torch import load_file
from small_run import small_run
from small_run import train as train_small

from tcl import load_model
from tcl.config.model import ImageEncoderConfig
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.errors import InputError
from tcl.exports.pretrained import load_pretrained, save_pretrained

RESNET = ["--model.image.name=resnet10t", "--model.image.overrides={}", "--model.image.width=16"]


def options(folder) -> list[str]:
    given = [one for one in small_run(folder) if "image.overrides" not in one]
    return [*given, *RESNET, "--train.steps=4", "--model.image.image_size=64"]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_run_is_loaded_exported_and_resumed(tmp_path, frozen):
    common = [*options(tmp_path), f"--model.image.frozen={str(frozen).lower()}"]
    whole = train_small(common, tmp_path / "whole", "--train.save_every=2")
    weights = load_file(whole / "student.safetensors")
    seen = "encoders.image_encoder.backbone.bn1.running_var"
    assert weights[seen].equal(torch.ones_like(weights[seen])) == frozen
    loaded = load_pretrained(str(whole))
    assert all(tensor.equal(weights[name]) for name, tensor in loaded.student.state_dict().items())
    save_pretrained(loaded, tmp_path / "export")
    assert load_model(tmp_path / "export", device="cpu").student.state_dict()[seen].equal(weights[seen])

    earlier = tmp_path / "whole" / "checkpoints" / "step_00000002"
    again = train_small(common, tmp_path / "again", f"--train.resume={earlier}")
    for name in ("student", "teacher"):
        ours, theirs = load_file(again / f"{name}.safetensors"), load_file(whole / f"{name}.safetensors")
        assert ours.keys() == theirs.keys() and all(ours[one].equal(theirs[one]) for one in ours)


def test_frozen_norms_keep_what_they_came_with_while_the_network_is_trained(tmp_path):
    run = train_small([*options(tmp_path), "--model.image.frozen_norms=true"], tmp_path / "run")
    first = train_small([*options(tmp_path), "--train.steps=1", "--optim.warmup_lr=0"], tmp_path / "first")
    weights, start = (load_file(folder / "student.safetensors") for folder in (run, first))
    norm, convolution = (f"encoders.image_encoder.backbone.{name}" for name in ("layer1.0.bn1", "layer1.0.conv1"))
    assert weights[f"{norm}.running_mean"].eq(0).all() and weights[f"{norm}.running_var"].eq(1).all()
    assert weights[f"{norm}.num_batches_tracked"] == 0
    assert start[f"{norm}.weight"].eq(1).all() and start[f"{norm}.bias"].eq(0).all()
    for trained in (f"{norm}.weight", f"{norm}.bias", f"{convolution}.weight"):
        assert not weights[trained].equal(start[trained]), trained


def test_frozen_norms_make_training_see_what_evaluation_sees():
    config = ImageEncoderConfig(name="resnet10t", image_size=64, frozen_norms=True)
    encoder = deepcopy(build_image_encoder(config))
    image = torch.randn(4, 3, 64, 64)
    as_built = encoder(image)
    assert encoder.train()(image).equal(as_built) and encoder.eval()(image).equal(as_built)
    plain = build_image_encoder(replace(config, frozen_norms=False))
    assert not torch.allclose(plain.train()(image), plain.eval()(image), atol=0.01)


def test_a_network_without_batch_norms_cannot_freeze_them():
    with pytest.raises(
        InputError, match=r"model.image.frozen_norms: True, but 'vit_tiny_patch16_224' has no batch norms"
    ):
        build_image_encoder(ImageEncoderConfig(name="vit_tiny_patch16_224", image_size=64, frozen_norms=True))


@pytest.mark.slow
@pytest.mark.parametrize("sharding", [None, "zero2", "zero3"])
def test_two_processes_evaluate_save_and_go_on(tmp_path, sharding):
    more = [f"--train.deepspeed={sharding}"] if sharding else []
    val = f"--data.val={write_shards(tmp_path / 'val', [6])}"
    arguments = [*options(tmp_path), *more, val, "--eval.rerank_k=2", f"--output_dir={tmp_path / 'run'}"]
    done = launch("pretrain.py", *arguments)
    assert done.returncode == 0, done.stderr
    done = launch("pretrain.py", *arguments, "--train.steps=5", "--train.resume=auto")
    assert done.returncode == 0, done.stderr
    weights = load_file(tmp_path / "run" / "checkpoints" / "step_00000005" / "student.safetensors")
    seen = weights["encoders.image_encoder.backbone.bn1.running_mean"]
    assert torch.isfinite(seen).all() and seen.abs().max() > 0


def test_processes_agree_on_the_mean_of_what_they_saw(tmp_path):
    done = launch("tests/buffers_step.py", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["running_mean"].tolist() == [0.5] * 3 and found["running_var"].tolist() == [5.0] * 3
        assert found["num_batches_tracked"] == 5
