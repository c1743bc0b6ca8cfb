"""A vocabulary from shards: special tokens, known words, determinism, and nothing to learn from."""

import json

import pytest
from data_files import JPEG, write_tar

from tcl.data.text import load_tokenizer
from tcl.errors import InputError
from tools.train_tokenizer import train_tokenizer


@pytest.fixture
def shards(tmp_path) -> str:
    entries = []
    for i, captions in enumerate((["A red dog", "the Dog, running!"], ["red cat"])):
        entries += [(f"{i}.jpg", JPEG), (f"{i}.json", json.dumps({"captions": captions}).encode())]
    entries += [("8.jpg", JPEG), ("8.txt", b"a bird"), ("9.jpg", JPEG)]
    write_tar(tmp_path / "000000.tar", entries)
    return f"{tmp_path}/*.tar"


def test_special_tokens_and_words(shards, tmp_path):
    train_tokenizer(shards, tmp_path / "tokenizer", vocab_size=200)
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer"))
    names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert tokenizer.convert_tokens_to_ids(list(names)) == [0, 1, 2, 3, 4]
    assert (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.mask_token_id) == (0, 2, 4)
    assert tokenizer.tokenize("the red DOG and a bird")[1:3] == ["red", "dog"]
    assert tokenizer.unk_token not in tokenizer.tokenize("a bird running")


def test_deterministic_and_replaces_only_a_tokenizer(shards, tmp_path):
    train_tokenizer(shards, tmp_path / "tokenizer", vocab_size=200)
    first = (tmp_path / "tokenizer" / "tokenizer.json").read_bytes()
    train_tokenizer(shards, tmp_path / "tokenizer", vocab_size=200)
    assert (tmp_path / "tokenizer" / "tokenizer.json").read_bytes() == first
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="is not a tokenizer"):
        train_tokenizer(shards, tmp_path / "mine")


def test_nothing_to_learn_from(tmp_path):
    write_tar(tmp_path / "000000.tar", [("1.jpg", JPEG), ("2.jpg", JPEG)])
    with pytest.raises(InputError, match="holds no caption"):
        train_tokenizer(f"{tmp_path}/*.tar", tmp_path / "tokenizer")
    with pytest.raises(InputError, match="vocab_size: 3"):
        train_tokenizer(f"{tmp_path}/*.tar", tmp_path / "tokenizer", vocab_size=3)
