"""Re-scoring as an evaluation meets it: a bank of stored queries, or the evaluated ones themselves."""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from data_files import encode, noise, pair, write_shards, write_tar
from launching import launch
from rescoring import order_of
from small_run import rows, small_run
from small_run import train as train_small
from test_two_stage_retrieval import decode_of, features_of, small_set
from tiny import random_batch, tiny_models

from tcl.commands.task_options import parse_finetune
from tcl.config.retrieval_eval import EvalConfig
from tcl.data.sets.retrieval_set import RetrievalSet
from tcl.errors import InputError
from tcl.evaluation.rescoring_bank import load_bank, rescore_both
from tcl.search.rescorings import METHODS
from tcl.training.evaluate_only import evaluate_only


def tokenize_as_drawn(texts):
    ids = random_batch(len(texts), seed=8).inputs["text"].ids
    mask = (ids != 0).long()
    mask[:, 0] = 1
    return ids, mask


def other_set() -> RetrievalSet:
    images = [encode(noise(100 + i), "PNG") for i in range(5)]
    texts = [f"other {i}" for i in range(5)]
    return RetrievalSet(images, texts, [(i, i) for i in range(5)], [str(i) for i in range(5)], texts)


@pytest.mark.parametrize("with_bank", [True, False])
def test_each_direction_is_rescored_by_queries_of_its_own_kind(with_bank):
    student, _ = tiny_models()
    student.train()
    data, bank = small_set(), other_set() if with_bank else None
    config = EvalConfig(rescore="inverted_softmax", rescore_temperature=0.1, batch_size=2)
    found = rescore_both(
        Accelerator(cpu=True),
        student.encoders,
        bank,
        None if bank is None else decode_of(bank),
        tokenize_as_drawn,
        config=config,
    )
    assert student.training
    student.eval()
    images, texts = features_of(student, data)
    stored = features_of(student, bank) if with_bank else (images, texts)
    for rescore, queries, candidates, of_bank in zip(found, (images, texts), (texts, images), stored, strict=True):
        cosines = queries @ candidates.T
        hubness = 0.1 * np.log(np.exp(of_bank @ candidates.T / 0.1).sum(axis=0))
        ours = rescore(torch.from_numpy(queries), torch.from_numpy(candidates))(torch.from_numpy(cosines.copy()))
        np.testing.assert_allclose(ours.numpy(), cosines - hubness, atol=1e-5)
        assert order_of(ours.numpy()).tolist() == order_of(cosines - hubness).tolist()


def write_bank(folder) -> str:
    """Three images with a caption each."""
    folder.mkdir()
    files = [entry for i in range(3) for entry in pair(str(i), f"number {i}", encode(noise(10 + i)))]
    write_tar(folder / "0.tar", files)
    return str(folder / "*.tar")


def read(pattern: str, evaluated: RetrievalSet) -> RetrievalSet:
    return load_bank(pattern, evaluated, max_words=30, max_pixels=10**6, max_sample_bytes=2**20)


def test_a_bank_that_holds_an_evaluated_image_is_refused(tmp_path):
    pattern = write_bank(tmp_path / "bank")
    evaluated = RetrievalSet(images=[encode(noise(11))], captions=["nothing that the bank says"])
    with pytest.raises(InputError) as told:
        read(pattern, evaluated)
    assert str(told.value) == (
        f"eval.rescore_bank: {pattern!r} holds 1 of the images that are evaluated (0.tar/1, ...); give shards of other "
        f"images, e.g. those of training"
    )


def test_captions_that_are_evaluated_word_for_word_are_left_out(tmp_path):
    pattern = write_bank(tmp_path / "bank")
    bank = read(pattern, RetrievalSet(captions=["number 1", "number 3"]))
    assert bank.captions == ["number 0", "number 2"] and len(bank.images) == 3
    with pytest.raises(InputError, match=r"^eval\.rescore_bank: all captions of .* are evaluated, too; give other"):
        read(pattern, RetrievalSet(captions=["number 0", "number 1", "number 2"]))


def test_a_bank_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere"):
        read(str(tmp_path / "nowhere" / "*.tar"), RetrievalSet())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["eval.rescore_bank=bank.tar"], "eval.rescore_bank: 'bank.tar' is not possible; accepted: null, unless eval."),
        (["eval.rescore=dsl", "eval.rescore_temperature=0"], "eval.rescore_temperature: 0.0 is not possible; accepted"),
        (["eval.rescore=dsl", "eval.rescore_iterations=0"], "eval.rescore_iterations: 0 is not possible; accepted: "),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, options, message):
    with pytest.raises(InputError) as told:
        train_small(small_run(tmp_path), tmp_path / "run", *(f"--{option}" for option in options))
    assert str(told.value).startswith(message)


def test_a_run_reports_both_and_says_which_is_transductive(tmp_path):
    val = write_shards(tmp_path / "val", [6])
    bank = f"--eval.rescore_bank={tmp_path / 'train' / '*.tar'}"
    options = [*small_run(tmp_path), f"--data.val={val}", "--train.steps=1", "--eval.rerank_k=3"]
    for method in METHODS:
        train_small(options, tmp_path / method, f"--eval.rescore={method}")
        names = {name for row in rows(tmp_path / method) for name in row}
        assert {"eval_transductive_i2t_r1", "eval_i2t_r1", "eval_rerank_t2i_r1"} <= names
        assert "eval_rescored_i2t_r1" not in names
    other = write_bank(tmp_path / "bank")
    train_small(options, tmp_path / "bank_run", "--eval.rescore=sinkhorn", f"--eval.rescore_bank={other}")
    names = {name for row in rows(tmp_path / "bank_run") for name in row}
    assert "eval_rescored_t2i_r1" in names and "eval_transductive_i2t_r1" not in names
    with pytest.raises(InputError, match=r"^eval\.rescore_bank: .* holds \d+ of the images that are evaluated"):
        train_small(options, tmp_path / "same", "--eval.rescore=dsl", bank)


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path):
    train_small([*small_run(tmp_path), "--train.steps=1"], tmp_path / "run")
    entries = [entry for i in range(7) for entry in pair(f"v{i}", f"number {i} dog", encode(noise(30 + i)))]
    write_tar(tmp_path / "val.tar", entries)
    options = [
        *("--task=retrieval", f"--init={tmp_path / 'run'}", f"--data.val={tmp_path / 'val.tar'}"),
        *("--eval.rescore=sinkhorn", f"--eval.rescore_bank={write_bank(tmp_path / 'bank')}", "--eval.rerank_k=3"),
        *("--eval.rerank_similarity=0.5", "--train.precision=fp32", "--data.workers=0"),
    ]
    evaluate_only(*parse_finetune([*options, f"--output_dir={tmp_path / 'one'}"], trains=False))
    done = launch("finetune.py", *options, "--eval_only", f"--output_dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "results" / "metrics.json").read_text()) for name in ("one", "two"))
    assert one == pytest.approx(two) and "rescored_i2t_r1" in one
