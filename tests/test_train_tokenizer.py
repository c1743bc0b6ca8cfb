"""A vocabulary from shards: special tokens, known words, determinism, and nothing to learn from."""

import json

import pytest
from data_files import JPEG, write_tar
from transformers import AutoTokenizer

from tcl.data.texts.tokenize import load_tokenizer
from tcl.data.texts.vocabulary import SPECIAL_TOKENS, learn_vocabulary, train_tokenizer
from tcl.errors import InputError


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
    assert tokenizer.tokenize("red DOG") == ["red", "dog"]
    assert tokenizer.unk_token not in tokenizer.tokenize("a bird running")


def test_deterministic_and_replaces_only_a_tokenizer(shards, tmp_path):
    train_tokenizer(shards, tmp_path / "tokenizer", vocab_size=200)
    first = (tmp_path / "tokenizer" / "tokenizer.json").read_bytes()
    train_tokenizer(shards, tmp_path / "tokenizer", vocab_size=200)
    assert (tmp_path / "tokenizer" / "tokenizer.json").read_bytes() == first
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="is not a tokenizer"):
        train_tokenizer(shards, tmp_path / "mine")


def test_an_export_is_more_than_a_tokenizer(shards, tmp_path):
    export = tmp_path / "export"
    train_tokenizer(shards, export, vocab_size=200)
    (export / "model.safetensors").write_bytes(b"weeks of training")
    with pytest.raises(
        InputError, match=r"^out: .*export exists and is not a tokenizer alone; remove it or name another"
    ):
        train_tokenizer(shards, export, vocab_size=200)
    assert (export / "model.safetensors").read_bytes() == b"weeks of training"


def test_nothing_to_learn_from(tmp_path):
    write_tar(tmp_path / "000000.tar", [("1.jpg", JPEG), ("2.jpg", JPEG)])
    with pytest.raises(InputError, match="holds no text"):
        train_tokenizer(f"{tmp_path}/*.tar", tmp_path / "tokenizer")
    with pytest.raises(InputError, match="vocab_size: 3"):
        train_tokenizer(f"{tmp_path}/*.tar", tmp_path / "tokenizer", vocab_size=3)


def test_the_same_captions_always_give_the_same_vocabulary():
    texts = [f"{a}{b}ing {b}{a}ed" for a in "abcdefghij" for b in "klmnopqrst"]
    first = learn_vocabulary(texts, 300)
    assert all(learn_vocabulary(texts, 300) == first for _ in range(5))
    assert sorted(first.values()) == list(range(len(first)))


def test_vocab_size_is_a_limit_even_with_many_characters():
    texts = [f"{chr(0x4E00 + i)} {chr(0x3B1 + i % 24)}x{chr(0x430 + i % 32)}" for i in range(300)]
    vocabulary = learn_vocabulary(texts, 100)
    assert len(vocabulary) <= 100
    assert [vocabulary[token] for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]


def test_auto_tokenizer_frames_a_text_as_bert_does(shards, tmp_path):
    train_tokenizer(shards, tmp_path / "tokenizer", vocab_size=200)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert tokenizer.decode(tokenizer("Red DOG")["input_ids"]) == "[CLS] red dog [SEP]"
    assert not (tmp_path / "tokenizer.partial").exists()


def test_impossible_counts_and_an_out_that_cannot_be_written(shards, tmp_path):
    for name, value in (("max_texts", -1), ("max_texts", 0), ("max_words", 0)):
        with pytest.raises(InputError, match=f"{name}: {value} is not possible"):
            train_tokenizer(shards, tmp_path / "tokenizer", **{name: value})
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"out: .* cannot be written"):
        train_tokenizer(shards, tmp_path / "file" / "tokenizer", vocab_size=200)
