"""A loaded TCL of video and text: its embeddings, its matches and its order of candidates, clip by clip by hand."""

import numpy as np
import pytest
import torch
from data_files import TOKENIZER, encode, noise
from media_files import film
from tiny_pretrained import PLAIN, tiny_video_text

from tcl import TCL, TCLForVideo, load_model
from tcl.config.clips import ClipsConfig
from tcl.data.video.whole_clip import whole_clip
from tcl.errors import InputError

FILMS = [film([np.asarray(noise(7 * i + n, (40, 36))) for n in range(6)]) for i in range(4)]
TEXTS = ["a photo of dog", "red cat on mat", "blue"]


@torch.no_grad()
def tokens_of(model: TCLForVideo, content: bytes) -> torch.Tensor:
    """[1, N, width]."""
    known = model.pretrained.model
    frames = whole_clip(content, known.video, 32, limits=ClipsConfig(), max_pixels=10**6)
    encoder = model.student.encoders.image_encoder
    return encoder(encoder.prepare(frames[None]))


@torch.no_grad()
def by_hand(model: TCLForVideo, films: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Cosines [films, texts] and ITM logits [films, texts, 2], a pair at a time."""
    encoders, cosines, logits = model.student.encoders, [], []
    for content in films:
        tokens = tokens_of(model, content)
        for text in TEXTS:
            ids = TOKENIZER([f"[CLS] {text}"], add_special_tokens=False, return_tensors="pt")
            states = encoders.text_encoder(ids["input_ids"], ids["attention_mask"])
            fusion = encoders.fusion_encoder
            fused = fusion(states, ids["attention_mask"], fusion.image_keys_values(tokens))
            logits.append(model.student.itm_head(fused[0, 0]))
            cosines.append((encoders.embed_images(tokens) * encoders.project_text(states[:, 0])).sum())
    shape = len(films), len(TEXTS)
    return torch.stack(cosines).view(shape).numpy(), torch.stack(logits).view(*shape, 2).numpy()


def probabilities(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))


@pytest.mark.parametrize("hears", [False, True])
def test_embeddings_and_matches_are_those_of_the_networks(hears, tmp_path):
    model = tiny_video_text(hears=hears, batch_size=7)
    path = tmp_path / "a.mp4"
    path.write_bytes(FILMS[0])
    cosines, logits = by_hand(model, FILMS)
    matches = probabilities(logits)
    given = [path, *FILMS[1:]]
    np.testing.assert_allclose(model.encode_video(given) @ model.encode_text(TEXTS).T, cosines, atol=1e-5)
    np.testing.assert_allclose(model.match_grid(given, TEXTS), matches, atol=1e-5)
    np.testing.assert_allclose(model.match(FILMS[:3], TEXTS), matches[:3].diagonal(), atol=1e-5)
    ranked = model.rank(TEXTS[0], FILMS)
    assert [one.index for one in ranked] == (-matches[:, 0]).argsort(kind="stable").tolist()
    assert model.predict([(TEXTS[1], FILMS[2])])[0] == pytest.approx(matches[2, 1], abs=1e-5)


def test_candidates_by_embedding_are_ordered_by_their_match():
    model = tiny_video_text()
    cosines, logits = by_hand(model, FILMS)
    matches = logits[..., 1]
    corpus = model.embed_video(FILMS)
    for queries, found, similar, matched in (
        (TEXTS, model.retrieve(TEXTS, corpus, k=2, candidates=3), cosines.T, matches.T),
        (FILMS, model.retrieve(corpus, TEXTS, k=2, candidates=2), cosines, matches),
    ):
        candidates = 3 if queries is TEXTS else 2
        for row in range(len(queries)):
            best = (-similar[row]).argsort()[:candidates]
            assert found.ids[row].tolist() == best[(-matched[row][best]).argsort()][:2].tolist()


def test_what_kind_of_clip_it_is_makes_no_difference(tmp_path):
    """Frames as numbers, a file of them, an opened one; a still image is a clip that stands still."""
    model, picture = tiny_video_text(), np.asarray(noise(3, (32, 32)))
    frames = np.stack([picture] * 3)
    still = model.encode_video(frames)
    assert still.shape == (1, 8)
    np.testing.assert_allclose(model.encode_video(encode(noise(3, (32, 32)), "PNG")), still, atol=1e-5)
    np.testing.assert_allclose(model.encode_video([torch.from_numpy(frames).permute(0, 3, 1, 2)]), still, atol=1e-5)
    np.testing.assert_allclose(model.match(frames, "blue"), model.match([frames[:1]], "blue"), atol=1e-5)


def test_tokens_are_stored_for_this_model_and_for_no_other_view_of_clips(tmp_path):
    model = tiny_video_text()
    stored = model.write_tokens(model.encode_tokens(FILMS), tmp_path / "tokens.bin", "fp16")
    np.testing.assert_allclose(model.match_stored(stored, TEXTS), probabilities(by_hand(model, FILMS)[1]), atol=1e-2)
    other = tiny_video_text()
    other.pretrained.model.video.fps = 1.0
    with pytest.raises(InputError, match=r"tokens\.bin"):
        other.open_tokens(tmp_path / "tokens.bin")


def test_a_saved_model_is_opened_as_what_it_is(tmp_path):
    model = tiny_video_text(hears=True)
    model.save_pretrained(tmp_path / "export")
    again = load_model(tmp_path / "export", **PLAIN)
    assert type(again) is TCLForVideo and again.student.sound is not None
    np.testing.assert_array_equal(again.encode_video(FILMS), model.encode_video(FILMS))


@pytest.mark.parametrize(
    ("ask", "line"),
    [
        (lambda model: model.encode_video("none.mp4"), r"clips\[0\]: 'none\.mp4'"),
        (lambda model: model.encode_video([FILMS[0], b"text"]), r"clips\[1\]: "),
        (lambda model: model.encode_video([]), r"clips: "),
        (lambda model: model.match(np.zeros((4, 4)), "blue"), r"clips\[0\]: "),
        (lambda model: model.retrieve(TEXTS, TEXTS, k=1), r"corpus: texts, as the query"),
        (lambda model: model.retrieve(TEXTS, model.embed_video(FILMS), k=5), r"k: 5, of a corpus of 4"),
    ],
)
def test_what_cannot_be_used(ask, line):
    with pytest.raises(InputError, match=rf"^{line}"):
        ask(tiny_video_text())


def test_other_classes_do_not_open_it(tmp_path):
    tiny_video_text().save_pretrained(tmp_path / "export")
    with pytest.raises(InputError, match=r"a video_text model is no TCL; load it with TCLForVideo"):
        TCL.from_pretrained(tmp_path / "export", **PLAIN)
