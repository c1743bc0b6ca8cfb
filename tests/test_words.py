"""Words of `fill_mask` and `explain` as people write them, whatever marks the vocabulary has for spaces."""

import pytest
from data_files import TOKENIZER, noise
from tiny_pretrained import tiny_tcl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

from tcl import TCL
from tcl.data.texts.tokenize import words_of

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = ["a red dog runs on the mat"] * 3 + ["dogs running", "東京 ä"]


def trained(model, trainer, pre_tokenizer, decoder=None) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.train_from_iterator(TEXTS, trainer)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, sep_token="[SEP]", **names)


def byte_level(decoder=None) -> PreTrainedTokenizerFast:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    return trained(models.BPE(), trainer, pre_tokenizers.ByteLevel(add_prefix_space=False), decoder)


def unigram(decoder=None) -> PreTrainedTokenizerFast:
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False)
    return trained(models.Unigram(), trainer, pre_tokenizers.Metaspace(), decoder)


def with_ends(end: str, decoder=None) -> PreTrainedTokenizerFast:
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=SPECIAL, end_of_word_suffix=end, show_progress=False)
    model = models.BPE(end_of_word_suffix=end, unk_token="[UNK]")
    return trained(model, trainer, pre_tokenizers.Whitespace(), decoder)


ALL = {
    "byte-level BPE": byte_level(decoders.ByteLevel()),
    "byte-level BPE without decoder": byte_level(),
    "Unigram": unigram(decoders.Metaspace()),
    "Unigram without decoder": unigram(),
    "BPE with ends of words": with_ends("</w>", decoders.BPEDecoder(suffix="</w>")),
    "BPE with ends of words without decoder": with_ends("</w>"),
}


@pytest.mark.parametrize("tokenizer", ALL.values(), ids=ALL.keys())
@pytest.mark.parametrize("text", ["a red dog", "a red dog runs on the mat", "dogs 東京 ä"])
def test_pieces_joined_without_spaces_are_the_text(tokenizer, text):
    """An oracle that knows no marks: of all pieces nothing is left but the letters of the text."""
    words = words_of(tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"])
    assert "".join(words).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("tokenizer", ALL.values(), ids=ALL.keys())
def test_no_word_of_a_whole_vocabulary_has_a_mark(tokenizer):
    for word in words_of(tokenizer, list(range(len(tokenizer)))):
        assert word and not any(mark in word for mark in ("Ġ", "Ċ", "▁", "@@", "</w>"))
        assert word == word.strip() or not word.strip()


def test_whole_words_and_a_line_feed():
    tokenizer = ALL["byte-level BPE"]
    ids = tokenizer("a red dog\n", add_special_tokens=False)["input_ids"]
    assert words_of(tokenizer, ids) == ["a", "red", "dog", "\n"]
    assert words_of(ALL["Unigram"], ALL["Unigram"].convert_tokens_to_ids(["▁"])) == [" "]


def test_continuations_as_fastbpe_marks_them():
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, "run@@", "ning", "@@"])}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "[UNK]")))
    assert words_of(tokenizer, [5, 6, 7]) == ["run", "ning", "@@"]


def test_wordpieces_keep_their_mark():
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, "run", "##ning", "Ġanni"])}
    tokenizer = BertTokenizerFast(vocab=vocabulary)
    assert words_of(tokenizer, [4, 5, 6, 7]) == ["[MASK]", "run", "##ning", "Ġanni"]


def with_tokenizer(tokenizer) -> TCL:
    """A model of as many tokens as the others in the tests: ids beyond are never asked for here."""
    model = tiny_tcl()
    model.pretrained.tokenizer = tokenizer
    return model


def test_a_model_says_them():
    words = ["▁a", "▁red", "▁dog", "▁on", "▁mat", "ing"]
    vocabulary = [(word, -1.0) for word in [*SPECIAL, *words]] + [(f"x{i}", -9.0) for i in range(len(TOKENIZER) - 11)]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=1))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
    model = with_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, **names))
    assert model.explain(noise(), "A red dog").words == ["a", "red", "dog"]
    (guesses,) = model.fill_mask(noise(), "a [MASK] dog", k=len(TOKENIZER))
    assert {"a", "red", "dog", "on", "mat", "ing"} <= {guess.word for guess in guesses}
