"""Captions, tokens and MLM masking."""

import pytest
import torch
from data_files import TOKENIZER
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, RobertaTokenizerFast

from tcl.data.texts.captions import clean_caption
from tcl.data.texts.masking import mask_tokens
from tcl.data.texts.tokenize import join_tokens, load_tokenizer, tokenize
from tcl.errors import InputError


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A Dog, on the MAT.", "a dog on the mat"),
        ("a black-and-white T-shirt/top", "a black and white t shirt top"),
        ("<PERSON> and <person> walk", "person and person walk"),
        (",.'!?\"()*#:;~", ""),
        ("  a \t b\n\nc  ", "a b c"),
        ("don't (ever) stop: now; #1 ~ok", "dont ever stop now 1 ok"),
        ("a <b> & c_d", "a <b> & c_d"),
        ("ÄÖ 東京", "äö 東京"),
    ],
)
def test_clean_caption(raw, clean):
    assert clean_caption(raw, 30) == clean


def test_clean_caption_cuts_words():
    assert clean_caption("one-two three four", 3) == "one two three"


def test_tokenize_is_cls_and_tokens_padded_to_the_longest():
    ids, mask = tokenize(TOKENIZER, ["a dog", "a photo of a cat"], 25)
    a, dog, photo, of, cat = TOKENIZER.convert_tokens_to_ids(["a", "dog", "photo", "of", "cat"])
    assert ids.tolist() == [[2, a, dog, 0, 0, 0], [2, a, photo, of, a, cat]]
    assert mask.tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert ids.dtype == mask.dtype == torch.int64


def test_tokenize_counts_cls_in_max_tokens():
    ids, _ = tokenize(TOKENIZER, ["a photo of a dog"], 3)
    assert ids.tolist() == [TOKENIZER.convert_tokens_to_ids(["[CLS]", "a", "photo"])]


def test_tokenize_text_without_tokens():
    ids, mask = tokenize(TOKENIZER, [""], 25)
    assert ids.tolist() == [[2]]
    assert mask.tolist() == [[1]]


def roberta() -> RobertaTokenizerFast:
    vocab = {
        token: i
        for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "d", "o", "g", "Ġ", "<", ">", "p"])
    }
    return RobertaTokenizerFast(vocab=vocab, merges=[])


def test_tokenize_roberta_pads_with_its_own_id_and_starts_with_s():
    ids, mask = tokenize(roberta(), ["a", "dog"], 25)
    assert ids.tolist() == [[0, 5, 1, 1], [0, 6, 7, 8]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_tokenize_special_tokens_in_captions_are_text():
    ids, _ = tokenize(roberta(), ["<pad>"], 25)
    assert 1 not in ids[0]


def test_load_tokenizer_from_a_folder(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert tokenize(loaded, ["a dog"], 9)[0].equal(tokenize(TOKENIZER, ["a dog"], 9)[0])


def test_load_tokenizer_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"^model\.text\.tokenizer: '.*nothing' cannot be loaded [^\n]*$"):
        load_tokenizer(str(tmp_path / "nothing"))


def test_load_tokenizer_without_mask(tmp_path):
    plain = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]", cls_token="[CLS]").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no pad, mask token"):
        load_tokenizer(str(tmp_path))


def masked(probability: float, seed: int = 0, rows: int = 400, length: int = 50):
    ids = torch.randint(5, 1000, (rows, length), generator=torch.Generator().manual_seed(1))
    ids[:, 0] = 2
    attention = torch.ones_like(ids)
    attention[:, length // 2 :] = 0
    generator = torch.Generator().manual_seed(seed)
    result = mask_tokens(ids, attention, probability=probability, mask_id=4, vocab_size=1000, generator=generator)
    return ids, attention, result


def test_masking_rates():
    ids, attention, result = masked(0.15)
    candidates = (attention.sum() - len(ids)).item()
    chosen = len(result.positions)
    new = result.ids.flatten()[result.positions]
    kept, replaced = (new == result.labels).sum().item(), (new == 4).sum().item()
    other = chosen - kept - replaced

    def within_four_sigma(count: int, n: int, p: float) -> bool:
        return abs(count - n * p) < 4 * (n * p * (1 - p)) ** 0.5

    assert within_four_sigma(chosen, candidates, 0.15)
    assert within_four_sigma(replaced, chosen, 0.8)
    assert within_four_sigma(kept, chosen, 0.1)
    assert within_four_sigma(other, chosen, 0.1)


def test_masking_labels_positions_and_the_rest():
    ids, attention, result = masked(0.3)
    assert result.labels.equal(ids.flatten()[result.positions])
    assert (result.positions % ids.shape[1] != 0).all(), "[CLS] is never masked"
    assert attention.flatten()[result.positions].all(), "padding is never masked"
    changed = (result.ids != ids).flatten().nonzero().flatten()
    assert set(changed.tolist()) <= set(result.positions.tolist())
    assert result.ids.max() < 1000


def test_masking_all_and_nothing():
    ids, attention, result = masked(1.0)
    assert len(result.positions) == attention.sum() - len(ids)
    ids, _, result = masked(0.0)
    assert len(result.positions) == len(result.labels) == 0
    assert result.ids.equal(ids)


def test_masking_is_a_function_of_the_generator():
    first, again, other = masked(0.15)[2], masked(0.15)[2], masked(0.15, seed=1)[2]
    assert all(value.equal(getattr(again, name)) for name, value in vars(first).items())
    assert not first.positions.equal(other.positions)


@pytest.mark.parametrize(
    ("decoded", "written"),
    [
        ("10 : 30", "10:30"),
        ("2. 5", "2.5"),
        ("don ' t", "don't"),
        ("50 %", "50%"),
        ("$ 5", "$5"),
        ("t - shirt", "t-shirt"),
        ("red and white", "red and white"),
        (" 1 / 2 ", "1/2"),
    ],
)
def test_decoded_answers_are_joined_as_people_write_them(decoded, written):
    assert join_tokens(decoded) == written
