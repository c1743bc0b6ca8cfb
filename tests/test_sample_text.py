"""Captions and ids as people and machines write them: lines, nulls, megabytes, halves of characters."""

import json
from functools import partial

import pytest
from data_files import JPEG, TOKENIZER, config, encode, loader, noise, pair, write_tar

from tcl.data.feed import batch_stream
from tcl.data.sets.question_set import load_question_set
from tcl.data.sets.retrieval_set import load_retrieval_set
from tcl.data.shards.bad_sample import BadSample, reading
from tcl.data.shards.list_shards import list_shards, shard_labels
from tcl.data.shards.read_shard import read_samples
from tcl.data.texts import sample_texts
from tcl.data.texts.captions import MAX_CAPTION_CHARACTERS, clean_caption
from tcl.data.texts.question import MANY_ANSWERS, MAX_ANSWERS, question_of
from tcl.data.texts.read_texts import texts_of_file
from tcl.data.texts.sample_texts import LONG_TEXT, MAX_TEXT_BYTES, NOT_JSON, clean_captions
from tcl.errors import InputError

CLEAN = partial(clean_caption, max_words=30)


def said(**values) -> dict[str, bytes]:
    return {"jpg": JPEG, "json": json.dumps(values).encode()}


def cause(fields: dict[str, bytes]) -> str:
    with pytest.raises(BadSample) as raised:
        clean_captions(fields, 30)
    return str(raised.value)


def load(path, **options):
    return load_retrieval_set(str(path), **{"max_words": 30, "max_pixels": 10**6, **options})


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_a_txt_are_captions(tmp_path, end):
    text = end.join(["A dog.", "", "  ", "a cat", "a photo of a dog", "!", "thing", "red"]) + end
    expected = ["a dog", "a cat", "a photo of a dog", "thing", "red"]
    assert clean_captions({"txt": text.encode()}, 30) == expected
    write_tar(tmp_path / "0.tar", [("x.jpg", JPEG), ("x.txt", text.encode())])
    assert load(tmp_path / "0.tar").captions == expected
    batches = loader(config(str(tmp_path / "0.tar")), batch_size=60)
    texts = next(batches).inputs["text"]
    assert {TOKENIZER.decode(row[1:]).replace(" [PAD]", "") for row in texts.ids} == set(expected)


def test_one_null_among_captions_is_dropped_alone(tmp_path):
    assert clean_captions(said(captions=["a dog", None, "a cat"]), 30) == ["a dog", "a cat"]
    assert cause(said(captions=[None])) == sample_texts.EMPTY_CAPTION
    assert cause(said(captions=[None, 3])) == sample_texts.NOT_TEXT
    entries = [("x.jpg", JPEG), ("x.json", said(captions=["a dog", None], caption_ids=["i", "j"])["json"])]
    found = load(write_tar(tmp_path / "0.tar", entries))
    assert found.captions == ["a dog"] and found.caption_ids == ["i"]


def test_texts_have_a_limit():
    long = b"a dog " * (MAX_TEXT_BYTES // 6) + b"abcd"
    assert len(long) == MAX_TEXT_BYTES
    assert len(clean_captions({"txt": long}, 10**6)[0]) <= MAX_CAPTION_CHARACTERS
    assert cause({"txt": long + b"x"}) == cause({"json": b" " * MAX_TEXT_BYTES + b"{}"}) == LONG_TEXT
    assert clean_captions({"txt": long}, 2) == ["a dog"]


def test_a_word_has_a_limit():
    assert clean_caption("x" * 10**6, 30) == "x" * MAX_CAPTION_CHARACTERS


@pytest.mark.parametrize(
    "content",
    [b"[" * 10**5, b'{"caption": ' + b"9" * 10**5 + b"}", b'{"a":' * 10**5, b'{"caption": nul', b"\xef\xbb\xbf"],
)
def test_json_that_python_chokes_on(content):
    assert cause({"json": content}) == NOT_JSON


def test_lines_of_a_file_have_a_limit(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes(b"a dog\n" + b"x" * (3 * MAX_TEXT_BYTES) + b"\na cat\n" + b"y" * (2 * MAX_TEXT_BYTES))
    found = [(text.id, text.text, text.problem) for text in texts_of_file(path, CLEAN)]
    assert found == [("1", "a dog", None), ("2", "", LONG_TEXT), ("3", "a cat", None), ("4", "", LONG_TEXT)]
    with pytest.raises(InputError, match=r"^texts: /dev/zero cannot be read \(no file\)"):
        texts_of_file(type(path)("/dev/zero"), CLEAN)


# Ids


ODD_ID = '"\\ud83d caf\\u00e9 \\u2028"'


def test_ids_with_half_a_character_can_be_written_and_trained_on(tmp_path):
    content = f'{{"captions": ["a dog"], "caption_ids": [{ODD_ID}], "image_id": {ODD_ID}}}'.encode()
    write_tar(tmp_path / "0.tar", [("x.jpg", JPEG), ("x.json", content), *pair("y", image=encode(noise(1)))])
    found = load(tmp_path / "0.tar")
    assert found.image_ids[0] == found.caption_ids[0] == "\\ud83d caf\u00e9 \u2028"
    "".join(found.image_ids + found.caption_ids).encode()
    batches = loader(config(str(tmp_path / "0.tar"), shuffle_buffer=1), named_ids=True, batch_size=2)
    assert len(set(next(batches).ids.tolist())) == 2 and batches.bad.total == {}


def test_questions_with_half_a_character(tmp_path):
    ids = f'"question_id": {ODD_ID}, "question_type": {ODD_ID}'
    content = '{"question": "what", "answers": ["dog \\ud83d"], ' + ids + "}"
    write_tar(tmp_path / "0.tar", [("x.jpg", JPEG), ("x.json", content.encode())])
    (asked,) = load_question_set(str(tmp_path / "0.tar"), max_words=9, max_pixels=10**6).questions
    json.dumps(vars(asked), ensure_ascii=False).encode()
    assert asked.question_id == asked.question_type == "\\ud83d caf\u00e9 \u2028"


def test_types_that_are_no_text_are_none():
    asked = question_of(said(question="what", question_type={"a": 1}, answer_type=["x"]), "k", 30)
    assert (asked.question_type, asked.answer_type) == (None, None)


def test_a_question_of_too_many_answers():
    question_of(said(question="what", answers=["dog"] * MAX_ANSWERS), "k", 30)
    with pytest.raises(BadSample, match=MANY_ANSWERS):
        question_of(said(question="what", answers=["dog"] * (MAX_ANSWERS + 1)), "k", 30)


def test_keys_that_are_no_utf_8(tmp_path):
    path = write_tar(tmp_path / "0.tar", pair("caf\udce9") + pair("caf\u00e9"))
    keys = [sample.key for sample in read_samples(str(path))]
    assert keys == ["0.tar/caf\\xe9", "0.tar/caf\u00e9"]
    "".join(keys).encode()


def test_shards_whose_own_names_are_no_utf_8(tmp_path):
    for folder in ("a", "b\udce9"):
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / "caf\udce9.tar", pair("x"))
    batches = loader(config(f"{tmp_path}/*/*.tar"), batch_size=2)
    assert next(batches).keys == ["caf\\udce9.tar/x"] * 2
    found = load(f"{tmp_path}/*/*.tar")
    "".join([*found.image_ids, *shard_labels(list_shards(f"{tmp_path}/*/*.tar")).values()]).encode()


# Exceptions that are not ours


@pytest.mark.parametrize("error", [ValueError("x"), MemoryError(), RuntimeError("y"), UnicodeError()])
def test_another_exception_in_a_reader_is_a_counted_bad_sample(tmp_path, monkeypatch, error):
    write_tar(tmp_path / "0.tar", pair("a") + pair("b"))

    def raises(*arguments, **options):
        raise error

    expected = f"{type(error).__name__} while reading"
    batches = loader(config(str(tmp_path / "0.tar"), shuffle_buffer=1), batch_size=1)
    next(batches)
    for place in ("sets.retrieval_set", "images.pixel_views"):
        monkeypatch.setattr(f"tcl.data.{place}.image_bytes", raises)
    with pytest.raises(InputError, match=rf"no usable image-text pair: {expected} 2$"):
        load(tmp_path / "0.tar")
    with pytest.raises(InputError, match=rf"max_bad_fraction.*{expected} \d"):
        for _ in range(10):
            next(batches)


@pytest.mark.parametrize("error", [InputError("x"), KeyboardInterrupt(), SystemExit(3), BadSample("cause")])
def test_ours_and_those_that_end_the_process_are_let_through(error):
    with pytest.raises(type(error)) as raised, reading():
        raise error
    assert raised.value is error


def test_good_samples_that_become_no_batch_are_named(tmp_path, monkeypatch):
    write_tar(tmp_path / "0.tar", pair("a") + pair("b"))
    batches = loader(config(str(tmp_path / "0.tar"), shuffle_buffer=1), batch_size=2)

    def fails(examples, seed):
        raise ValueError("no batch")

    monkeypatch.setattr(batches._stream.reader, "batch", fails)
    with pytest.raises(batch_stream.BatchError, match=r"samples 0\.tar/a, 0\.tar/b: ValueError\('no batch'\)"):
        next(batches)
