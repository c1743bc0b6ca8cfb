"""Retrieval from codes: runs that learn, resume, are exported and opened; two processes; what cannot be."""

import json
import math
import shutil
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from compressed_step import part, student_of, teacher_of
from data_files import encode, noise, pair, write_shards, write_tar
from launching import ROOT, launch
from safetensors.torch import load_file
from small_run import rows, small_run
from small_run import train as pretrain

from tcl import TCLForCompressedRetrieval, load_model
from tcl.commands.main import run
from tcl.commands.task_options import parse_finetune
from tcl.errors import InputError
from tcl.losses.hybrid_contrast import debiased_contrast, plain_share
from tcl.models.batch_norm import BatchNorm
from tcl.models.ghost_vlad import GhostVLAD
from tcl.models.product_quantiser import ProductQuantiser
from tcl.models.spherical_kmeans import fit_codebooks
from tcl.models.unit_rows import unit_or_zero
from tcl.objectives.codebook_teacher import CodebookTargets
from tcl.training.evaluate_only import evaluate_only
from tcl.training.run import train

SMALL = ("dim=16", "levels=2", "parts=4", "codewords=6", "refit_pairs=16")


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """A folder with a run of pre-training, val/, and pairs/: 40 images that differ, which a contrast can tell apart."""
    folder = tmp_path_factory.mktemp("pretrained")
    pretrain([*small_run(folder), "--train.epochs=1"], folder / "run")
    write_shards(folder / "val", [6])
    (folder / "pairs").mkdir()
    captions = [" ".join(words) for words in permutations(["a", "photo", "of", "dog", "god"])]
    files = [file for i in range(40) for file in pair(f"{i:02}", captions[i], encode(noise(i)))]
    write_tar(folder / "pairs" / "000000.tar", files)
    AcceleratorState._reset_state(reset_partial_state=True)
    return folder


def options(folder: Path, output_dir: Path, *more: str) -> list[str]:
    return [
        "--task=compressed_retrieval",
        f"--init={folder / 'run'}",
        f"--output_dir={output_dir}",
        f"--data.train=[{{'shards': '{folder / 'pairs' / '*.tar'}'}}]",
        f"--data.val={folder / 'val' / '*.tar'}",
        "--data.workers=0",
        *(f"--quantise.{one}" for one in SMALL),
        "--train.batch_size=8",
        "--train.epochs=2",
        "--train.precision=fp32",
        "--train.log_every=1",
        "--eval.rerank_k=3",
        "--optim.warmup_steps=0",
        *more,
    ]


def compressed(folder: Path, output_dir: Path, *more: str, trains: bool = True):
    return parse_finetune(options(folder, output_dir, *more), trains=trains)


@pytest.mark.parametrize("assignment", ["soft", "straight_through"])
def test_a_run_learns_reports_all_three_and_stops_anywhere(pretrained, tmp_path, assignment):
    """Epochs are of 5 steps: stopped in the middle of the first and of the second, it goes on to the same bit."""
    given = f"--quantise.assignment={assignment}"
    whole = train(*compressed(pretrained, tmp_path / "whole", given))
    for steps in (3, 8, 10):
        AcceleratorState._reset_state(reset_partial_state=True)
        config, build = compressed(pretrained, tmp_path / "parts", given)
        config.train.save_every = 1
        parts = train_to(config, build, steps)
    assert parts.name == whole.name == "step_00000010"
    for file in ("student.safetensors", "teacher.safetensors", "optimizer.safetensors"):
        ours, theirs = load_file(whole / file), load_file(parts / file)
        assert ours.keys() == theirs.keys()
        assert all(ours[name].equal(theirs[name]) for name in ours), file
    steps = [row for row in rows(tmp_path / "whole") if "loss" in row]
    shares = [row["plain_share"] for row in steps]
    assert shares == pytest.approx([math.cos(math.pi / 4)] * 5 + [0.0] * 5, abs=1e-6)
    for row in steps:
        share = row["plain_share"]
        assert row["quantised"] > 0.5 and row["plain"] > 0.5
        hybrid = (1 - share) * row["quantised"] + share * row["plain"]
        assert row["loss"] == pytest.approx(hybrid + row["itm"], rel=1e-4)
    last = [row for row in rows(tmp_path / "whole") if "eval_mean" in row][-1]
    for prefix in ("", "quantised_", "rerank_"):
        assert {f"eval_{prefix}{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)} <= last.keys()


def train_to(config, build, steps: int) -> Path:
    """As a preemption after that many steps would leave it."""
    from tcl.runs.preemption import StopRequest
    from tcl.training import run as training

    done = []
    told = StopRequest.anywhere

    def stop(self, device):
        done.append(1)
        return first + len(done) == steps or told(self, device)

    checkpoints = Path(config.output_dir) / "checkpoints"
    first = max((int(path.name[5:]) for path in checkpoints.glob("step_*")), default=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopRequest, "anywhere", stop)
        try:
            return training.train(config, build)
        except training.Preempted:
            return checkpoints / f"step_{steps:08d}"


def test_straight_through_refits_its_codebooks_when_an_epoch_ends(pretrained, tmp_path):
    config, build = compressed(pretrained, tmp_path / "run", "--quantise.assignment=straight_through")
    config.train.save_every, config.train.keep_checkpoints = 1, 20
    train(config, build)
    folders = sorted((tmp_path / "run" / "checkpoints").glob("step_*"))
    books = [load_file(folder / "student.safetensors")["encoders.heads.quantiser.codebooks"] for folder in folders]
    same = [one.equal(other) for one, other in pairwise(books)]
    assert same == [True] * 3 + [False] + [True] * 4 + [False]
    torch.testing.assert_close(books[-1].norm(dim=-1), torch.ones(books[-1].shape[:-1]))
    before = load_file(folders[3] / "teacher.safetensors")
    assert int(before["kept"]) == 32 and int(before["given"]) == 32
    assert int(load_file(folders[4] / "teacher.safetensors")["kept"]) == 0


def test_a_teacher_refits_to_the_newest_pairs_of_the_epoch():
    student = student_of("straight_through")
    teacher, vectors = teacher_of(student, refit_pairs=12), {"image": [], "text": []}
    before = student.encoders.heads.quantiser.codebooks.clone()
    for step in range(2):
        batch = part(step, slice(None))
        teacher.update([])
        targets = teacher(batch, {}, 0.0)
        student(batch, targets)
        for name, rows_of in targets.to_enqueue(len(batch)).items():
            vectors[name].append(rows_of)
        assert student.encoders.heads.quantiser.codebooks.equal(before)
        teacher.enqueue(targets.to_enqueue(len(batch)))
    newest = {name: torch.cat(some)[-12:] for name, some in vectors.items()}
    # The ring wrote over its oldest rows: of 16, the last four lie where the first four did.
    ring = {name: torch.cat([some[8:], some[:8]]) for name, some in newest.items()}
    expected = fit_codebooks(torch.cat([ring["image"], ring["text"]]).flatten(1, 2), before.flatten(0, 1))
    torch.testing.assert_close(student.encoders.heads.quantiser.codebooks.flatten(0, 1), expected)


def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    """Losses, gradients, running statistics and refits of both assignments; images that come twice, a text without
    words, and texts that are padded to another length on each."""
    done = launch("tests/compressed_step.py", str(tmp_path))
    assert done.returncode == 0, done.stderr
    alone, *ranks = (torch.load(tmp_path / f"{name}.pt") for name in ("alone", 0, 1))
    assert len(alone) > 300
    for name, value in alone.items():
        found = [rank[name] for rank in ranks]
        if "/loss/" in name:
            torch.testing.assert_close(torch.stack(found).mean(), value, rtol=1e-4, atol=1e-6)
        else:
            for one in found:  # a bias before a batch norm has no gradient but of rounding
                assert (one - value).double().norm() <= 1e-4 * value.double().norm() + 1e-5, name
        if "/state/" in name:
            assert found[0].equal(found[1]), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sharding", "assignment"), [("zero2", "soft"), ("zero3", "soft"), ("zero3", "straight_through")]
)
def test_sharded_processes_learn_what_processes_learn(pretrained, tmp_path, sharding, assignment):
    """With every parameter in parts, codebooks too; evaluated, and gone on after the first epoch."""
    settings = json.loads((ROOT / "configs" / "deepspeed" / f"{sharding}.json").read_text())
    if sharding == "zero3":
        settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    (tmp_path / "deepspeed.json").write_text(json.dumps(settings))
    common = [f"--quantise.assignment={assignment}", "--train.batch_size=4", "--optim.eps=1e-3", "--optim.lr=1e-2"]
    found = {}
    for name, more in (("plain", []), ("sharded", [f"--train.deepspeed={tmp_path / 'deepspeed.json'}"])):
        for steps in (5, 10):
            last = [f"--train.steps={steps}", "--train.resume=auto"]
            done = launch("finetune.py", *options(pretrained, tmp_path / name, *common, *more, *last))
            assert done.returncode == 0, done.stderr
        checkpoints = tmp_path / name / "checkpoints"
        half, found[name] = (
            load_file(checkpoints / step / "student.safetensors") for step in ("step_00000005", "step_00000010")
        )
        assert "eval_quantised_mean" in rows(tmp_path / name)[-1]
    assert found["plain"].keys() == found["sharded"].keys()
    moved = "encoders.heads.image_coarse.project.weight"
    assert (found["sharded"][moved] - half[moved]).abs().max() > 2e-3  # much more than what may differ
    if assignment == "straight_through":
        refitted, expected = (weights.pop("encoders.heads.quantiser.codebooks") for weights in found.values())
        same = (refitted - expected).abs().amax(dim=-1) < 1e-3
        assert same.float().mean() > 0.8  # rounding gives a vector between two clusters to either
    for name, value in found["plain"].items():
        torch.testing.assert_close(found["sharded"][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_what_is_trained_gets_a_gradient_and_the_rest_is_frozen():
    for assignment in ("soft", "straight_through"):
        for itm_weight in (0.0, 1.0):
            student = student_of(assignment, itm_weight)
            student(part(0, slice(None)), CodebookTargets(0.5)).total.backward()
            trained = {name for name, p in student.named_parameters() if p.requires_grad}
            assert [name for name in trained if student.get_parameter(name).grad is None] == []
            left = {name.split(".")[1] for name, p in student.named_parameters() if not p.requires_grad and "." in name}
            expected = {"vision_proj", "text_proj", "mlm_head"}
            assert left == (expected if itm_weight else expected | {"fusion_encoder", "weight", "bias"})
            assert ("encoders.heads.quantiser.codebooks" in trained) == (assignment == "soft")


def test_an_empty_text_has_no_fine_vector_and_no_nan():
    student = student_of(itm_weight=1.0)
    batch = part(0, slice(None))
    batch.inputs["text"].mask[:, 1:] = 0
    losses = student(batch, CodebookTargets(0.5))
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad.isfinite().all() for p in student.parameters() if p.grad is not None)
    student.eval()
    texts = batch.inputs["text"]
    levels = student.encoders.heads.text_levels(student.encoders.text_encoder(texts.ids, texts.mask), texts.mask)
    assert not levels[:, 1:].any() and (levels[:, 0].norm(dim=-1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("train_mode", [True, False])
def test_what_padding_holds_changes_nothing(train_mode):
    torch.manual_seed(0)
    vlad, there = GhostVLAD(8, 3, 2).train(train_mode), torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()
    tokens = torch.randn(2, 3, 8)
    before = vlad(tokens, there)
    assert before.equal(vlad(torch.where(there[..., None], tokens, 7.0), there))


def test_batch_norm_is_that_of_torch_and_no_rows_change_nothing():
    torch.manual_seed(0)
    ours, theirs, rows_of = BatchNorm(5), torch.nn.BatchNorm1d(5), torch.randn(7, 5)
    for _ in range(2):
        torch.testing.assert_close(ours(rows_of), theirs(rows_of))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    before = ours.running_var.clone()
    assert ours(rows_of, torch.zeros(7, dtype=torch.bool)).isfinite().all() and ours.running_var.equal(before)


def test_debiased_contrast_leaves_out_pairs_of_the_same_image():
    """By a loop over rows."""
    torch.manual_seed(0)
    similar, ids = unit_or_zero(torch.randn(2, 4, 6)), torch.tensor([1, 2, 1, 3, 4, 2])
    own = torch.arange(4)
    left_out = (ids[:4, None] == ids) & (torch.arange(6) != own[:, None])
    for prior in (0.0, 0.1):
        losses = []
        for level in similar / 0.5:
            for b in range(4):
                wrong = [level[b, c].exp() for c in range(6) if ids[c] != ids[b]]
                others = (sum(wrong) - prior * len(wrong) * level[b, b].exp()) / (1 - prior)
                losses.append(-(level[b, b].exp() / (level[b, b].exp() + others)).log())
        expected = torch.stack(losses).view(2, 4).mean(dim=1)
        torch.testing.assert_close(debiased_contrast(similar, own, 0.5, prior, left_out), expected)
    assert debiased_contrast(similar, own, 0.001).isfinite().all()


def test_the_schedule_goes_from_plain_to_quantised():
    assert [plain_share(e, 2) for e in (1, 2, 3)] == pytest.approx([math.cos(math.pi / 4), 0, 0], abs=1e-12)


@pytest.mark.parametrize("vectors", [0, 1, 1024, 2100])
def test_codes_are_the_nearest_codewords_however_many_vectors_there_are(vectors):
    torch.manual_seed(0)
    quantiser = ProductQuantiser((2, 3, 16, 4))
    levels = unit_or_zero(torch.randn(vectors, 2, 3, 4))
    distances = torch.cdist(levels.permute(1, 2, 0, 3).double(), quantiser.codewords.double())  # [V, M, B, K]
    assert quantiser.codes(levels).equal(distances.argmin(dim=-1).permute(2, 0, 1).to(torch.uint8))


def test_kmeans_seeds_empty_clusters_again():
    """Two words are the same, one is far from all vectors: each ends with vectors of its own."""
    torch.manual_seed(0)
    vectors = unit_or_zero(torch.randn(40, 1, 3))
    vectors[:3] = 0  # those of texts without words
    books = torch.eye(3)[None, [0, 0, 1, 2]].clone()
    found = fit_codebooks(vectors, books, rounds=50)[0]
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    codes = (vectors[3:, 0] @ found.T).argmax(dim=1)
    assert codes.bincount(minlength=4).min() > 0
    for k in range(4):  # a fixed point: every word is the mean of its vectors
        torch.testing.assert_close(found[k], unit_or_zero(vectors[3:, 0][codes == k].sum(dim=0)), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"^quantise\.codewords: 4 to fit to 3 vectors; give at most as many"):
        fit_codebooks(vectors[:3], books)


def test_it_is_exported_opened_searched_encoded_and_started_from(pretrained, tmp_path, capsys):
    train(*compressed(pretrained, tmp_path / "run", "--train.steps=2"))
    run(["export", str(tmp_path / "run"), str(tmp_path / "export")])
    assert "TCLForCompressedRetrieval.from_pretrained" in (tmp_path / "export" / "README.md").read_text()
    model = load_model(tmp_path / "export", device="cpu", precision="fp32")
    assert type(model) is TCLForCompressedRetrieval and model.codebooks.shape == (3, 4, 6, 4)
    pictures, texts = [noise(i) for i in range(4)], ["a photo of a dog", "red number", "blue cat on mat"]
    images = model.encode_image(pictures)
    assert images.shape == (4, 48)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-5)
    found = model.retrieve(texts, pictures, k=4)
    cosines = model.encode_text(texts) @ images.T
    np.testing.assert_allclose(np.sort(found.similarities, axis=1), np.sort(cosines, axis=1), atol=1e-5)
    codes = model.encode_image_codes(pictures)
    assert codes.shape == (4, 3, 4) and codes.dtype == np.uint8 and codes.max() < 6
    parts = images.reshape(4, 3, 4, 4)
    np.testing.assert_array_equal(codes, np.einsum("nvmd,vmkd->nvmk", parts, model.codebooks).argmax(axis=3))
    AcceleratorState._reset_state(reset_partial_state=True)
    assert "heads and codebooks start random" in capsys.readouterr().out
    again = [f"--init={tmp_path / 'export'}", f"--output_dir={tmp_path / 'again'}"]
    evaluate_only(*compressed(pretrained, tmp_path / "again", "--data.train=[]", *again, trains=False))
    metrics = json.loads((tmp_path / "again" / "results" / "metrics.json").read_text())
    trained = [row for row in rows(tmp_path / "run") if "eval_quantised_mean" in row][-1]
    assert metrics["quantised_mean"] == pytest.approx(trained["eval_quantised_mean"])
    assert "random" not in capsys.readouterr().out
    with pytest.raises(InputError, match=r"^quantise\.parts: 8 is not possible; accepted: 4, as in the codes of init,"):
        config, build = compressed(pretrained, tmp_path / "x", *again, "--quantise.parts=8")
        train(config, build)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--quantise.parts=5"], r"^quantise\.parts: 5 do not divide quantise\.dim, 16; accepted: a divisor of it$"),
        (
            ["--quantise.codewords=257"],
            r"^quantise\.codewords: 257 is not possible; accepted: 2 to 256: a code is a byte$",
        ),
        (["--quantise.codewords=1"], r"^quantise\.codewords: 1 is not possible"),
        (["--quantise.nearest=7"], r"^quantise\.nearest: 7 is not possible; accepted: 1 to 6, or null$"),
        (["--quantise.temperature=0"], r"^quantise\.temperature: 0.* accepted: 0\.001 to 0\.5$"),
        (["--quantise.prior=1"], r"^quantise\.prior: 1.* accepted: 0 <= p < 1$"),
        (["--quantise.alpha=0"], r"^quantise\.alpha: 0.* accepted: a number > 0"),
        (
            ["--quantise.assignment=straight_through", "--quantise.refit_pairs=2"],
            r"^quantise\.refit_pairs: 2 pairs have fewer vectors than quantise\.codewords, 6; give at least 3$",
        ),
        (["--eval.rescore=sinkhorn"], r"^eval\.rescore: 'sinkhorn' is not possible; accepted: none: codes are"),
        (["--train.batch_size=1"], r"^train\.batch_size: 1; the others of a batch are the negatives: give at least 2$"),
    ],
)
def test_what_cannot_be_is_refused(pretrained, tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        compressed(pretrained, tmp_path / "out", *given)


@pytest.mark.parametrize("assignment", ["soft", "straight_through"])
def test_more_codewords_than_vectors_of_an_epoch_are_refused(pretrained, tmp_path, assignment):
    """40 pairs are 80 vectors; the refit sees 16 pairs."""
    config, build = compressed(
        pretrained,
        tmp_path / "out",
        f"--quantise.assignment={assignment}",
        "--quantise.codewords=100",
        "--quantise.refit_pairs=5000",
    )
    with pytest.raises(InputError, match=r"^quantise\.codewords: 100 to fit to 80 vectors, images and texts, of an "):
        train(config, build)


def test_a_model_without_codebooks_is_not_evaluated_nor_encoded(pretrained, tmp_path):
    missing = r"^init: .* has no codebooks; give a run or an export of --task compressed_retrieval$"
    with pytest.raises(InputError, match=missing):
        compressed(pretrained, tmp_path / "out", trains=False)
    (weights,) = (pretrained / "run" / "checkpoints").glob("step_*/student.safetensors")
    shutil.copy(weights, tmp_path)  # where nothing says what they are of
    alone = [option for option in small_run(tmp_path) if option.startswith("--model.")]
    config, build = compressed(
        pretrained, tmp_path / "out", f"--init={tmp_path / weights.name}", "--data.train=[]", *alone, trains=False
    )
    with pytest.raises(InputError, match=missing):
        evaluate_only(config, build)
    (tmp_path / "texts.txt").write_text("a dog\n")
    encode = ["encode", str(pretrained / "run"), f"--texts={tmp_path / 'texts.txt'}", "--codes"]
    with pytest.raises(InputError, match=r"^codes: .*run is a TCL, without codebooks; give a model of `tcl finetune"):
        run([*encode, f"--out={tmp_path / 'codes.safetensors'}"])
    with pytest.raises(InputError, match=r"^out: .*codes\.npy ends in \.npy; codes are kept in a \.safetensors$"):
        run([*encode, f"--out={tmp_path / 'codes.npy'}"])
