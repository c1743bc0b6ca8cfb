"""`predict` and `rank` of both kinds of matchers, against `match` of one pair at a time."""

from pathlib import Path

import numpy as np
import pytest
from data_files import noise
from tiny_foreign import save_blip
from tiny_pretrained import PLAIN, tiny_tcl

from tcl import load_model
from tcl.errors import InputError

IMAGES = [noise(i, (40, 30)) for i in range(4)]
TEXTS = ["a red dog", "cat on a mat", "a photo of thing number dog", "blue"]


@pytest.fixture(scope="module", params=["tcl", "blip"])
def model(request, tmp_path_factory):
    if request.param == "tcl":
        return tiny_tcl(batch_size=3)
    return load_model(save_blip(tmp_path_factory.mktemp("blip")), **PLAIN, batch_size=3)


@pytest.fixture(scope="module")
def of_each(model) -> np.ndarray:
    """[images, texts], pair by pair."""
    return np.array([[model.match(image, text)[0] for text in TEXTS] for image in IMAGES])


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    found = [tmp_path / f"{i}.png" for i in range(len(IMAGES))]
    for image, path in zip(IMAGES, found, strict=True):
        image.save(path)
    return found


def test_pairs_of_any_order_and_kind(model, of_each, paths):
    places = [(0, 1), (3, 0), (0, 2), (1, 1), (0, 1), (2, 3)]
    given = [
        (IMAGES[0], TEXTS[1]),
        (TEXTS[0], str(paths[3])),
        [TEXTS[2], IMAGES[0]],
        (paths[1], TEXTS[1]),
        (np.array(IMAGES[0]), TEXTS[1]),
        (paths[2].read_bytes(), TEXTS[3]),
    ]
    found = model.predict(iter(given))
    assert found.dtype == np.float32 and found.shape == (6,)
    np.testing.assert_allclose(found, [of_each[place] for place in places], atol=2e-5)


def test_the_best_images_of_a_text_and_texts_of_an_image(model, of_each, paths):
    for query, documents, scores in (
        (TEXTS[1], IMAGES, of_each[:, 1]),
        (TEXTS[2], [str(path) for path in paths], of_each[:, 2]),
        (IMAGES[2], TEXTS, of_each[2]),
        (paths[3], TEXTS, of_each[3]),
    ):
        for top_k in (None, 1, 3, 100):
            found = model.rank(query, documents, top_k)
            assert [one.index for one in found] == np.argsort(-scores)[:top_k].tolist()
            np.testing.assert_allclose([one.score for one in found], np.sort(scores)[::-1][:top_k], atol=2e-5)


def test_of_equal_documents_the_later_comes_first(model):
    found = model.rank(TEXTS[0], [IMAGES[1]] * 3)
    assert [one.index for one in found] == [2, 1, 0]
    assert len({one.score for one in found}) == 1


def test_what_is_in_several_pairs_is_read_once(model, monkeypatch):
    seen = []
    monkeypatch.setattr(
        model, "image_tokens", lambda pixels: seen.append(len(pixels)) or type(model).image_tokens(model, pixels)
    )
    model.predict([(image, text) for text in TEXTS for image in IMAGES])
    model.predict((noise(5), text) for text in TEXTS[:2])  # images that are gone before the next ones come
    assert sum(seen) == len(IMAGES) + 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.predict([]), r"pairs: there are none; give at least one"),
        (lambda m: m.predict(["ab"]), r"pairs\[0\]: a str is no pair; give \(text, image\) or \(image, text\)"),
        (lambda m: m.predict([("a", IMAGES[0], "b")]), r"pairs\[0\]: a tuple is no pair; give \(text, image\) or .*"),
        (
            lambda m: m.predict([(IMAGES[0], TEXTS[0]), (IMAGES[0], IMAGES[1])]),
            r"pairs\[1\]\[0\]: a Image is no text; .*",
        ),
        (lambda m: m.predict([(TEXTS[0], 3)]), r"pairs\[0\]\[0\]: a int is no image; give .*"),
        (lambda m: m.predict([(TEXTS[0], TEXTS[1])]), r"images\[0\]: 'cat on a mat' .*"),
        (lambda m: m.predict([("?", IMAGES[0])]), r"pairs\[0\]\[0\]: '\?' has no words; give a text"),
        (lambda m: m.rank(TEXTS[0], []), r"documents: there are none; give at least one"),
        (lambda m: m.rank(IMAGES[0], []), r"documents: there are none; give at least one"),
        (lambda m: m.rank(IMAGES[0], IMAGES), r"documents\[0\]: a Image is no text; give a string"),
        (lambda m: m.rank(3, TEXTS), r"query\[0\]: a int is no image; give .*"),
        (lambda m: m.rank(TEXTS[0], IMAGES, 0), r"top_k: 0 is not possible; accepted: a number >= 1"),
    ],
)
def test_what_is_no_pair_is_one_line(model, call, said):
    with pytest.raises(InputError, match=rf"^{said}$"):
        call(model)
