"""What a glob finds is a file, whatever it is called; what stands in the way of one is said."""

import json
import os

import pytest
from data_files import NO_AUGMENT, config, loader, pair, pairs, write_tar
from tiny import BERT
from tiny_pretrained import tiny_tcl

from tcl.commands.main import run
from tcl.data.sets.collect_answers import make_answer_list
from tcl.data.sets.question_set import load_question_set
from tcl.data.sets.retrieval_set import load_retrieval_set
from tcl.data.shards.list_shards import list_shards, open_shards, shard_sizes
from tcl.data.shards.read_shard import read_samples
from tcl.data.texts.vocabulary import train_tokenizer
from tcl.errors import InputError

NAMES = ("pipe:touch PWNED; .tar", "https:touch PWNED.tar", "file:x.tar", "s3:$(touch PWNED).tar", "-rf.tar", "a '.tar")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with shards that are called like commands, URLs and options."""
    monkeypatch.chdir(tmp_path)
    said = json.dumps({"caption": "a dog", "question": "what", "answers": ["dog"]}).encode()
    for i, name in enumerate(NAMES):
        write_tar(tmp_path / name, [*pair(f"s{i}"), (f"s{i}.json", said)])
    (tmp_path / "out").mkdir()
    yield tmp_path
    assert not list(tmp_path.rglob("PWNED*"))


def test_files_that_are_called_like_urls_are_read_as_files(folder):
    shards = open_shards("*.tar")
    assert [shard.size for shard in shards] == [1] * len(NAMES)
    assert {os.path.normpath(shard.url) for shard in shards} == set(NAMES)
    keys = [sample.key for shard in shards for sample in read_samples(shard.url, 0, 1, size=1)]
    assert sorted(keys) == sorted(f"{name}/s{i}" for i, name in enumerate(NAMES))


def test_so_do_all_who_read_shards(folder):
    batches = loader(config("*.tar", augment=NO_AUGMENT), batch_size=len(NAMES))
    assert len(next(batches).keys) == len(NAMES) and batches.bad.total == {}
    assert len(load_retrieval_set("*.tar", max_words=9, max_pixels=10**6).pairs) == len(NAMES)
    assert len(load_question_set("*.tar", max_words=9, max_pixels=10**6).questions) == len(NAMES)
    make_answer_list("*.tar", folder / "out" / "answers.txt")
    train_tokenizer("*.tar", folder / "out" / "tokenizer", vocab_size=100)


def test_and_tcl_encode(folder):
    tiny_tcl().save_pretrained("model")
    run(["encode", "model", "--shards=*.tar", "--out=out/a.npy", "--workers=0"])
    run(["encode", "model", "--shards=*.tar", "--captions", "--out=out/b.npy"])
    for name in ("a", "b"):
        assert len(json.loads((folder / "out" / f"{name}.ids.json").read_text())) == len(NAMES)


def test_and_training_with_its_evaluation_and_dry_run(folder, tmp_path):
    train_tokenizer("*.tar", folder / "out" / "tokenizer", vocab_size=100)
    model = ["vit_tiny_patch16_224", '{"embed_dim": 24, "depth": 2, "num_heads": 2}', json.dumps(BERT)]
    named = zip(("image.name", "image.overrides", "text.overrides"), model, strict=True)
    arguments = [
        *(f"--model.{name}={value}" for name, value in named),
        "--model.image.image_size=32",
        "--model.text.tokenizer=out/tokenizer",
        "--objective.queue_size=12",
        '--data.train=[{"shards": "*.tar"}]',
        "--data.val=*.tar",
        "--data.max_bad_fraction=1",
        "--data.workers=0",
        "--train.batch_size=3",
        "--train.steps=1",
        "--eval.rerank_k=2",
        "--output_dir=out/run",
    ]
    run(["pretrain", *arguments, "--dry_run"])
    run(["pretrain", *arguments])


def test_files_beside_such_a_shard_are_files(folder):
    (folder / "sizes.json").write_text(json.dumps({NAMES[0]: 1, "pipe:touch PWNED-too": 3}))
    (folder / "pipe:touch PWNED; _stats.json").write_text('{"successes": 7}')
    assert shard_sizes(list_shards("pipe?touch*.tar")) == [1]
    (folder / "sizes.json").unlink()
    assert shard_sizes(list_shards("pipe?touch*.tar")) == [7]


def test_a_file_url_is_a_file(folder):
    assert list_shards(f"file:{NAMES[0]}") == [f"./{NAMES[0]}"]
    assert list_shards(f"file://{folder}/{'-rf.tar'}") == [f"{folder}/-rf.tar"]


@pytest.mark.parametrize("name", ["data [v2]", "data {a,b}", "a*b", "what?", "{0..3}", "[", "{"])
def test_folders_with_the_characters_of_patterns_in_their_names(tmp_path, name):
    (tmp_path / name / "deep").mkdir(parents=True)
    for i in range(2):
        write_tar(tmp_path / name / "deep" / f"{i}.tar", pairs("a", 1))
    expected = [f"{tmp_path}/{name}/deep/{i}.tar" for i in range(2)]
    for pattern in ("deep/*.tar", "deep/{0..1}.tar", "deep/[01].tar", "**/*.tar"):
        assert list_shards(f"{tmp_path}/{name}/{pattern}") == expected
    assert list_shards(expected[0]) == expected[:1]


def test_a_file_with_braces_in_its_name(tmp_path):
    path = str(write_tar(tmp_path / "x{0..1}.tar", pairs("a", 1)))
    assert list_shards(path) == [path]


@pytest.mark.parametrize("pattern", ["*.tar", "1.tar"])
def test_links_to_nothing_are_named(tmp_path, pattern):
    write_tar(tmp_path / "0.tar", pairs("a", 1))
    (tmp_path / "1.tar").symlink_to("gone.tar")
    with pytest.raises(InputError, match=r"1\.tar is a link to a file that does not exist[^\n]*$"):
        list_shards(f"{tmp_path}/{pattern}")


@pytest.mark.parametrize("content", ["[" * 10**5, '{"0.tar": ' + "9" * 5000 + "}", '{"0.tar": NaN}', "\udcff"])
def test_counts_that_no_one_can_read(tmp_path, content):
    write_tar(tmp_path / "0.tar", pairs("a", 1))
    (tmp_path / "sizes.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"sizes\.json: [^\n]*$"):
        open_shards(f"{tmp_path}/*.tar")
