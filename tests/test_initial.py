"""What fine-tuning starts from: weights found, refused, or fitted to another resolution."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from tiny import BERT, VOCABULARY, tiny_models
from torch.nn import functional as F

from tcl.checkpoints.initial import fill, initial_weights
from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.errors import InputError
from tcl.models.encoders import build_encoders
from tcl.objectives.tcl import TCLStudent


def student_with(**image) -> TCLStudent:
    overrides = {"embed_dim": 24, "depth": 2, "num_heads": 2}
    sizes = {"name": "vit_tiny_patch16_224", "image_size": 32, "overrides": overrides, **image}
    model = ModelConfig(ImageEncoderConfig(**sizes), TextEncoderConfig(overrides=BERT), embed_dim=8, lmi_regions=2)
    torch.manual_seed(1)
    return TCLStudent(build_encoders(model, VOCABULARY, pad_id=0), ObjectiveConfig(queue_size=4))


def test_weights_of_a_file_fill_another_model(tmp_path):
    student, _ = tiny_models()
    save_file(student.state_dict(), tmp_path / "student.safetensors")
    other = student_with()
    notices = fill(other, initial_weights(str(tmp_path / "student.safetensors")), "x")
    assert notices == []
    assert all(other.state_dict()[name].equal(tensor) for name, tensor in student.state_dict().items())


@pytest.mark.parametrize(
    ("name", "prefix_tokens", "size"),
    [("vit_tiny_patch16_224", 1, 64), ("deit3_small_patch16_224", 0, 96), ("deit_tiny_distilled_patch16_224", 2, 48)],
)
def test_positions_are_interpolated_bicubically(name, prefix_tokens, size):
    """As published: prefix tokens stay, the grid is resized without antialiasing, also where it shrinks."""
    small, large = student_with(name=name), student_with(name=name, image_size=size)
    for source, target in ((small, large), (large, small)):
        weights = source.state_dict()
        positions = weights["encoders.image_encoder.vit.pos_embed"]
        notices = fill(target, dict(weights), "x")
        old, new = source.encoders.image_encoder.grid, target.encoders.image_encoder.grid
        prefix, grid = positions[:, :prefix_tokens], positions[:, prefix_tokens:]
        planes = grid.reshape(1, *old, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(planes, size=new, mode="bicubic", align_corners=False)
        expected = torch.cat([prefix, resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
        torch.testing.assert_close(target.state_dict()["encoders.image_encoder.vit.pos_embed"], expected)
        assert notices == [f"init: position embeddings interpolated from {old[0]} x {old[1]} to {new[0]} x {new[1]}"]


def test_rotary_positions_need_no_interpolation():
    """eva02 has absolute positions as well; its rotary ones are computed for any grid."""
    small = student_with(name="eva02_tiny_patch14_224", image_size=28)
    large = student_with(name="eva02_tiny_patch14_224", image_size=56)
    assert len(fill(large, small.state_dict(), "x")) == 1
    assert large.encoders.image_encoder(torch.randn(1, 3, 56, 56)).shape == (1, 17, 24)


def test_another_architecture_is_refused_with_the_sizes_that_differ():
    weights = tiny_models()[0].state_dict()
    other = student_with(overrides={"embed_dim": 48, "depth": 3, "num_heads": 2})
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(InputError) as refused:
        fill(other, weights, "runs/x")
    said = str(refused.value)
    assert said.startswith("init: runs/x is of another architecture: ") and "\n" not in said
    assert "is (1, 1, 24), here (1, 1, 48)" in said and " more; give the `model` section" in said
    assert all(before[name].equal(tensor) for name, tensor in other.state_dict().items())


def test_missing_parts_are_refused_unless_they_may_be_missing():
    student = student_with()
    weights = {k: v for k, v in student.state_dict().items() if "mlm_head" not in k}
    with pytest.raises(InputError, match=r"encoders\.mlm_head\..* is not there"):
        fill(student, dict(weights), "x")
    assert fill(student, dict(weights), "x", may_lack=("encoders.mlm_head.",)) == [
        "init: x has no weights for encoders.mlm_head: they start random"
    ]


def test_weights_without_a_place_are_refused_unless_not_needed():
    deeper = student_with(overrides={"embed_dim": 24, "depth": 3, "num_heads": 2})
    with pytest.raises(InputError, match=r"vit\.blocks\.2\.\S+ has no place here"):
        fill(student_with(), deeper.state_dict(), "x")
    encoders = student_with().encoders
    weights = {name.removeprefix("encoders."): tensor for name, tensor in student_with().state_dict().items()}
    assert fill(encoders, weights, "x", not_needed=("itm_head.",)) == []
    with pytest.raises(InputError, match=r"itm_head\.weight has no place here"):
        fill(encoders, weights, "x")


class Malicious:
    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere.pth", None, "holds no weights; accepted: a run's output_dir"),
        ("x.safetensors", b"junk", "cannot be read"),
        ("x.pth", b"junk", "refused|cannot be read"),
        ("x.pth", pickle.dumps(Malicious()), "refused|cannot be read"),
    ],
)
def test_files_that_are_no_weights(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        initial_weights(str(tmp_path / name))
    assert "\n" not in str(refused.value)


def test_a_pickle_that_wants_to_run_code_inside_a_torch_file_is_refused(tmp_path):
    torch.save({"model": Malicious()}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="refused"):
        initial_weights(str(tmp_path / "x.pth"))


def test_a_torch_file_of_something_else(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "x.pth")
    with pytest.raises(InputError, match="holds a list, no dict of tensors"):
        initial_weights(str(tmp_path / "x.pth"))


def test_a_damaged_or_empty_run(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match=r"run has no intact checkpoint"):
        initial_weights(str(tmp_path / "run"))
