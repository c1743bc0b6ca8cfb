"""Ranked and written answers against exhaustive versions, and the decoder's cache against none."""

from dataclasses import replace

import pytest
import torch
from tiny import MODEL, VOCABULARY

from benchmarks.textbook.vqa import rank_by_repetition
from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.errors import InputError
from tcl.evaluation.answering import AnswerList, generate_answers, rank_answers
from tcl.models.answer_decoder import AnswerDecoder, answer_decoder_from
from tcl.models.encoders import build_encoders

CLS, SEP = 2, 3


def tiny_decoder(vocabulary: int = VOCABULARY, model: ModelConfig = MODEL, layers: int | None = None) -> AnswerDecoder:
    torch.manual_seed(0)
    decoder = answer_decoder_from(build_encoders(model, vocabulary, pad_id=0), layers).eval()
    with torch.no_grad():  # far from uniform, so that orders do not hang on rounding
        decoder.head.bias.normal_(std=2.0)
        decoder.embeddings.word_embeddings.weight.normal_()
    return decoder


def questions_for(decoder: AnswerDecoder, count: int):
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(count, 6, 16, generator=generator)
    lengths = torch.arange(count) % 4 + 3
    mask = (torch.arange(6) < lengths[:, None]).long()
    return states, mask, decoder.question_keys_values(states, mask)


def log_probability(decoder: AnswerDecoder, questions, question: int, tokens: list[int]) -> float:
    """Of the tokens after [CLS], without any cache."""
    ids = torch.tensor([[CLS, *tokens]])
    states, _ = decoder(ids, questions, torch.tensor([question]))
    log_p = decoder.logits(states)[0].log_softmax(dim=-1)
    return sum(log_p[t, token].item() for t, token in enumerate(tokens))


@torch.no_grad()
def test_a_decoder_with_a_cache_equals_one_without():
    decoder = tiny_decoder()
    _, _, questions = questions_for(decoder, 3)
    ids, index = torch.randint(5, VOCABULARY, (4, 7)), torch.tensor([0, 2, 2, 1])
    whole, _ = decoder(ids, questions, index)
    first, past = decoder(ids[:, :3], questions, index)
    middle, past = decoder(ids[:, 3:4], questions, index, past)
    last, _ = decoder(ids[:, 4:], questions, index, past)
    torch.testing.assert_close(torch.cat([first, middle, last], dim=1), whole, rtol=1e-5, atol=1e-5)


class PublicArguments(torch.nn.Module):
    """Embeddings that take what transformers documents and no more."""

    def __init__(self, embeddings: torch.nn.Module):
        super().__init__()
        self.embeddings = embeddings
        self.position_embeddings, self.word_embeddings = embeddings.position_embeddings, embeddings.word_embeddings

    def forward(self, input_ids=None, token_type_ids=None, position_ids=None, inputs_embeds=None):
        given = {"token_type_ids": token_type_ids, "position_ids": position_ids, "inputs_embeds": inputs_embeds}
        return self.embeddings(input_ids, **given)


@pytest.mark.parametrize("name", ["bert", "roberta", "ernie"])
@torch.no_grad()
def test_positions_go_on_where_they_stopped_as_transformers_counts_them(name):
    """Arguments that count what was cached change their names with the versions of transformers."""
    decoder = tiny_decoder(model=replace(MODEL, text=replace(MODEL.text, name=name)))
    _, _, questions = questions_for(decoder, 1)
    own, seen = decoder.embeddings, []
    decoder.embeddings = PublicArguments(own)
    own.register_forward_hook(lambda module, arguments, output: seen.append(output))
    ids, index = torch.randint(5, VOCABULARY, (1, 6)), torch.tensor([0])
    _, past = decoder(ids[:, :2], questions, index)
    _, past = decoder(ids[:, 2:3], questions, index, past)
    decoder(ids[:, 3:], questions, index, past)
    torch.testing.assert_close(torch.cat(seen, dim=1), own(input_ids=ids))


@torch.no_grad()
def test_a_token_sees_none_after_it_and_no_padding_of_the_question():
    decoder = tiny_decoder()
    states, mask, questions = questions_for(decoder, 1)
    ids = torch.tensor([[CLS, 7, 8, 9]])
    changed = torch.tensor([[CLS, 7, 8, 4]])
    index = torch.tensor([0])
    a, b = decoder(ids, questions, index)[0], decoder(changed, questions, index)[0]
    assert a[:, :3].equal(b[:, :3]) and not a[:, 3].equal(b[:, 3])
    states[:, int(mask.sum()) :] += 5
    torch.testing.assert_close(decoder(ids, decoder.question_keys_values(states, mask), index)[0], a)


def answers() -> AnswerList:
    """All answers of one and two words among eight, and one of four."""
    words = list(range(5, 13))
    texts = [[w] for w in words] + [[v, w] for v in words for w in words if v != w] + [[5, 6, 7, 8]]
    ids = torch.zeros(len(texts), 6, dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text) + 2] = torch.tensor([CLS, *text, SEP])
    return AnswerList(ids, torch.tensor([len(text) + 2 for text in texts]))


@torch.no_grad()
@pytest.mark.parametrize("pass_tokens", [1, 5, 1000])
def test_ranked_answers_equal_the_likelihoods_one_by_one(pass_tokens):
    decoder, closed = tiny_decoder(), answers()
    _, _, questions = questions_for(decoder, 3)
    count = len(closed.ids)
    chosen, probabilities = rank_answers(decoder, questions, closed, k=count, pass_tokens=pass_tokens)
    for q in range(3):
        scores = []
        for row, length in zip(closed.ids.tolist(), closed.lengths.tolist(), strict=True):
            first = log_probability(decoder, questions, q, row[1:2])
            scores.append(first + log_probability(decoder, questions, q, row[1:length]))  # the first token twice
        expected = torch.tensor(scores).softmax(dim=0)
        torch.testing.assert_close(probabilities[q], expected[chosen[q]], rtol=1e-4, atol=1e-6)
        assert (probabilities[q].diff() <= 0).all() and sorted(chosen[q].tolist()) == list(range(count))


@torch.no_grad()
@pytest.mark.parametrize("k", [1, 3, 8])
def test_ranked_answers_equal_the_plain_repetition(k):
    """The benchmark's other side. No two answers begin alike: which of those the first cut takes is not laid down."""
    decoder, closed = tiny_decoder(), answers()
    states, mask, questions = questions_for(decoder, 4)
    own = torch.tensor([0, 15, 22, 29, 36, 43, 50, 57])  # "5", then two words from the second to the eighth
    assert len(set(closed.ids[own, 1].tolist())) == 8
    closed = AnswerList(closed.ids[own], closed.lengths[own])
    answer_mask = (torch.arange(6) < closed.lengths[:, None]).long()
    ours = rank_answers(decoder, questions, closed, k, pass_tokens=8)
    plain = rank_by_repetition(decoder, states, mask, closed.ids, answer_mask, k)
    assert ours[0].equal(plain[0])
    torch.testing.assert_close(ours[1], plain[1], rtol=1e-4, atol=1e-6)


def every_answer(decoder, questions, question: int, max_tokens: int, vocabulary: int) -> dict[tuple[int, ...], float]:
    """All answers that end within max_tokens, with their log-probabilities."""
    found, open_ones = {}, [((), 0.0)]
    for _ in range(max_tokens):
        longer = []
        for tokens, _ in open_ones:
            for token in range(vocabulary):
                value = log_probability(decoder, questions, question, [*tokens, token])
                (found.__setitem__(tokens, value) if token == SEP else longer.append(((*tokens, token), value)))
        open_ones = longer
    return found


@torch.no_grad()
def test_a_beam_as_wide_as_the_vocabulary_finds_the_most_probable_answer():
    vocabulary = 6
    decoder = tiny_decoder(vocabulary)
    decoder.head.bias[SEP] -= 2.0  # else the empty answer wins
    _, _, questions = questions_for(decoder, 3)
    written = generate_answers(decoder, questions, beams=vocabulary**2, max_tokens=3, cls_id=CLS, sep_id=SEP)
    for q in range(3):
        probable = every_answer(decoder, questions, q, 3, vocabulary)
        assert tuple(written[q]) == max(probable, key=probable.get)
    assert any(written)


@torch.no_grad()
def test_one_beam_is_greedy():
    decoder = tiny_decoder()
    decoder.head.bias[SEP] += 1.0
    _, _, questions = questions_for(decoder, 5)
    written = generate_answers(decoder, questions, beams=1, max_tokens=6, cls_id=CLS, sep_id=SEP)
    for q in range(5):
        tokens: list[int] = []
        while len(tokens) < 6:
            states, _ = decoder(torch.tensor([[CLS, *tokens]]), questions, torch.tensor([q]))
            token = int(decoder.logits(states)[0, -1].argmax())
            if token == SEP:
                break
            tokens.append(token)
        assert written[q] == tokens


@torch.no_grad()
def test_an_answer_that_does_not_end_is_cut():
    decoder = tiny_decoder()
    decoder.head.bias[SEP] = -1e4
    _, _, questions = questions_for(decoder, 2)
    for beams in (1, 3):
        written = generate_answers(decoder, questions, beams=beams, max_tokens=4, cls_id=CLS, sep_id=SEP)
        assert [len(tokens) for tokens in written] == [4, 4]


def test_the_decoder_starts_as_the_fusion_encoder():
    torch.manual_seed(0)
    same_width = ModelConfig(
        ImageEncoderConfig(
            "vit_tiny_patch16_224", image_size=32, overrides={"embed_dim": 16, "depth": 1, "num_heads": 2}
        ),
        MODEL.text,
    )
    encoders = build_encoders(same_width, VOCABULARY, pad_id=0)
    decoder = answer_decoder_from(encoders, layers=3)
    theirs = encoders.fusion_encoder.layers
    for own, layer in zip(decoder.layers, [theirs[0], theirs[1], theirs[1]], strict=True):
        for name, tensor in layer.state_dict().items():
            assert own.state_dict()[name].equal(tensor), name
    word_embeddings = decoder.embeddings.word_embeddings.weight
    assert word_embeddings.equal(encoders.text_encoder.word_embeddings.weight)
    assert word_embeddings.data_ptr() != encoders.text_encoder.word_embeddings.weight.data_ptr()
    assert decoder.head.dense.weight.equal(encoders.mlm_head.dense.weight)


def test_embeddings_of_another_width_make_no_decoder():
    text = TextEncoderConfig(name="electra", overrides={**MODEL.text.overrides, "embedding_size": 8})
    encoders = build_encoders(ModelConfig(MODEL.image, text), VOCABULARY, pad_id=0)
    with pytest.raises(InputError, match=r"^model\.text\.name: word embeddings of width 8 under layers of 16"):
        answer_decoder_from(encoders, None)
