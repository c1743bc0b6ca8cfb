"""Tokenizers of exports, as other software reads them: the ids of `tokenize`, by which models are trained."""

import json

import pytest
from data_files import TOKENIZER
from test_text import roberta
from test_words import ALL, SPECIAL, TEXTS
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizer, PreTrainedTokenizerFast

from tcl.data.texts.save_tokenizer import save_tokenizer
from tcl.data.texts.tokenize import load_tokenizer, tokenize, words_of

KINDS = {"WordPiece": TOKENIZER, "RoBERTa": roberta(), **ALL}
MAX_TOKENS = 6
CAPTIONS = [*TEXTS, "a dog", "a red dog on a mat, and a cat on a green mat", "<mask> a [MASK] [CLS] <pad> dog", ""]


def with_ends_of_llama() -> PreTrainedTokenizerFast:
    """Its configuration says itself which special tokens go around a text, whatever tokenizer.json says."""
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*SPECIAL, "a", "dog"])}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
    ends = {"bos_token": "[CLS]", "eos_token": "[SEP]", "add_bos_token": True, "add_eos_token": True}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names, **ends)


@pytest.mark.parametrize("tokenizer", [*KINDS.values(), with_ends_of_llama()], ids=[*KINDS, "ends of its own"])
def test_other_software_gets_the_ids_of_training(tokenizer, tmp_path):
    ids, mask = tokenize(tokenizer, CAPTIONS, MAX_TOKENS)
    save_tokenizer(tokenizer, tmp_path, MAX_TOKENS)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    found = theirs(CAPTIONS, truncation=True)["input_ids"]
    assert found == [row[present.bool()].tolist() for row, present in zip(ids, mask, strict=True)]
    padded = theirs(CAPTIONS, truncation=True, padding=True, return_tensors="pt")
    assert padded["input_ids"].tolist() == ids.tolist() and padded["attention_mask"].tolist() == mask.tolist()


@pytest.mark.parametrize("tokenizer", KINDS.values(), ids=KINDS.keys())
def test_training_on_a_saved_one_sees_the_same_ids(tokenizer, tmp_path):
    for name in ("once", "twice"):
        known = tokenizer if name == "once" else load_tokenizer(str(tmp_path / "once"))
        save_tokenizer(known, tmp_path / name, MAX_TOKENS)
        again = load_tokenizer(str(tmp_path / name))
        for max_tokens in (MAX_TOKENS, 40):
            for one, other in zip(
                tokenize(tokenizer, CAPTIONS, max_tokens), tokenize(again, CAPTIONS, max_tokens), strict=True
            ):
                assert one.tolist() == other.tolist()
        assert [again.tokenize(text) for text in TEXTS] == [tokenizer.tokenize(text) for text in TEXTS]
        special = ("cls", "sep", "pad", "mask", "unk")
        assert [getattr(again, f"{one}_token_id") for one in special] == [
            getattr(tokenizer, f"{one}_token_id") for one in special
        ]
        every = list(range(len(tokenizer)))
        assert words_of(again, every) == words_of(tokenizer, every)
        for text in TEXTS:
            written = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert again.decode(written) == tokenizer.decode(written)


def test_the_processor_of_another_model_is_left_out(tmp_path):
    tokenizer = roberta()
    tokenizer._set_processor_class("BlipProcessor")
    save_tokenizer(tokenizer, tmp_path, MAX_TOKENS)
    assert "processor_class" not in json.loads((tmp_path / "tokenizer_config.json").read_text())


def test_what_is_not_of_the_tokenizers_library_is_saved_as_it_is(tmp_path):
    class Letters(PreTrainedTokenizer):
        def get_vocab(self):
            return {"a": 0, "b": 1}

        @property
        def vocab_size(self):
            return 2

        def save_vocabulary(self, folder, filename_prefix=None):
            return ()

    save_tokenizer(Letters(model_max_length=77), tmp_path, MAX_TOKENS)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 77
    assert not (tmp_path / "tokenizer.json").exists()
