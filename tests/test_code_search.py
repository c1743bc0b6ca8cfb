"""Search in codes: tables, faiss's indexes and files of them, against sums by hand and the recorded scores of HCQ."""

import json

import numpy as np
import pytest
import torch
from data_files import noise
from golden_hcq import GOLDEN, M
from golden_retrieval import close
from safetensors.torch import load_file, save_file
from tiny_pretrained import tiny_compressed
from torch import Tensor

from tcl.commands.main import run
from tcl.errors import InputError
from tcl.inference.codes_file import read_codes
from tcl.models.compressed_encoders import side_by_side
from tcl.models.product_quantiser import split
from tcl.models.unit_rows import unit_or_zero
from tcl.search.candidates import rank_by_embedding
from tcl.search.code_index import check_index, flat_index, list_index, read_index, search_index, write_index
from tcl.search.codes import Codes, checked_codes, codebooks_hash

LEVELS, PARTS, WORDS = 3, 4, 10


def random_codes(count: int, words: int = WORDS) -> Codes:
    generator = torch.Generator().manual_seed(0)
    books = unit_or_zero(torch.randn(LEVELS, PARTS, words, 5, generator=generator))
    return checked_codes(torch.randint(words, (count, LEVELS, PARTS), generator=generator).to(torch.uint8), books)


def random_queries(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return side_by_side(unit_or_zero(torch.randn(count, LEVELS, PARTS, 5, generator=generator)))


def summed(codes: Codes, queries: Tensor) -> Tensor:
    """The mean over levels and parts of cosines, one after the other."""
    found = torch.zeros(len(queries), len(codes))
    parts = queries.unflatten(1, (LEVELS * PARTS, -1))
    for q in range(len(queries)):
        for c in range(len(codes)):
            words = [codes.codebooks[p, codes.codes[c, p].long()] for p in range(LEVELS * PARTS)]
            cosines = [torch.cosine_similarity(parts[q, p], word, dim=0) for p, word in enumerate(words)]
            found[q, c] = sum(cosines) / len(cosines)
    return found


def test_scores_are_means_of_cosines():
    codes, queries = random_codes(20), random_queries(4)
    torch.testing.assert_close(codes.scores(queries), summed(codes, queries))
    torch.testing.assert_close(queries @ codes.decoded().T, summed(codes, queries))
    ranked = rank_by_embedding(queries, codes, None, k=5)
    assert ranked.candidates.equal(summed(codes, queries).topk(5).indices)


def test_faiss_gives_the_recorded_scores():
    gallery, queries = (split(GOLDEN[f"in.search.{side}"], M) for side in ("gallery", "queries"))
    codes = checked_codes(GOLDEN["out.search.codes"].to(torch.uint8), GOLDEN["state.search.codewords"])
    rows, levels = side_by_side(queries).numpy(), gallery.shape[1]
    for index in (flat_index(codes), list_index(codes, levels, lists=3)):
        scores, places = search_index(index, rows, len(gallery))
        found = torch.zeros(len(rows), len(gallery)).scatter(1, torch.from_numpy(places), torch.from_numpy(scores))
        close(found, GOLDEN["out.search.scores"])
        close(found, GOLDEN["out.search.lut_scores"])


@pytest.mark.parametrize("words", [WORDS, 256])
def test_indexes_find_what_the_tables_say_and_survive_a_file(tmp_path, words):
    codes, queries = random_codes(300, words), random_queries(6)
    expected = codes.scores(queries).topk(7)
    books = codes.codebooks.unflatten(0, (LEVELS, PARTS))
    for name, index in (("flat", flat_index(codes)), ("lists", list_index(codes, LEVELS, lists=9))):
        write_index(index, tmp_path / name)
        for one in (index, read_index(tmp_path / name, books)):
            scores, places = search_index(one, queries.numpy(), 7)
            np.testing.assert_allclose(scores, expected.values.numpy(), atol=1e-6)
            np.testing.assert_array_equal(places, expected.indices.numpy())


def test_lists_are_by_the_coarse_level_and_the_same_every_time():
    codes, queries = random_codes(300), random_queries(6)
    first, second = (list_index(codes, LEVELS, lists=9) for _ in range(2))
    for looked in (1, 4):
        found = [search_index(index, queries.numpy(), 7, lists=looked) for index in (first, second)]
        np.testing.assert_array_equal(found[0][1], found[1][1])
        whole = codes.scores(queries).numpy()
        there = found[0][1] >= 0
        np.testing.assert_allclose(
            found[0][0][there], np.take_along_axis(whole, found[0][1].clip(0), axis=1)[there], atol=1e-6
        )
    # Of two candidates with the same coarse level, both or none are looked at.
    same = codes.codes.clone()
    same[1, :PARTS] = same[0, :PARTS]
    index = list_index(Codes(same, codes.codebooks), LEVELS, lists=9)
    for row in search_index(index, queries.numpy(), 300, lists=1)[1]:
        assert (0 in row) == (1 in row)


def test_what_cannot_be_searched_is_refused(tmp_path):
    codes, queries = random_codes(12), random_queries(2)
    books = codes.codebooks.unflatten(0, (LEVELS, PARTS))
    given = codes.codes.clone()
    given[3, 5] = WORDS
    with pytest.raises(
        InputError, match=r"^codes: code 10 of part 5 of item 3 is beyond the codebooks, which have 10 "
    ):
        checked_codes(given, books)
    for wrong in (given[:, :5], given.long(), given[0]):
        with pytest.raises(
            InputError, match=r"^codes: \[.*\] of u?int\d+; accepted: uint8 with 12 codes for each item$"
        ):
            checked_codes(wrong, books)
    index, others = flat_index(codes), unit_or_zero(books + 0.1)
    check_index(index, books, "index")
    with pytest.raises(
        InputError, match=r"^index: an index with other codebooks than the model's \(\w{12}\); build it"
    ):
        check_index(index, others, "index")
    write_index(index, tmp_path / "codes.faiss")
    with pytest.raises(InputError, match=r"^index: .*codes\.faiss: an index with other codebooks"):
        read_index(tmp_path / "codes.faiss", others)
    (tmp_path / "text").write_text("no index")
    for name in ("text", "absent"):
        with pytest.raises(InputError, match=rf"^index: .*{name} cannot be read; give an index of codes$"):
            read_index(tmp_path / name, books)
    with pytest.raises(InputError, match=r"^index: .* cannot be written; name another file$"):
        write_index(index, tmp_path / "no" / "folder")
    with pytest.raises(
        InputError, match=r"^queries: \[2, 8\]; accepted: \[n, 60\], embeddings of the model of the codes$"
    ):
        search_index(index, queries[:, :8].numpy(), 3)
    with pytest.raises(InputError, match=r"^k: 0 is not possible"):
        search_index(index, queries.numpy(), 0)
    with pytest.raises(InputError, match=r"^lists: 13 is not possible; accepted: 1 to the number of candidates, 12$"):
        list_index(codes, LEVELS, lists=13)


def test_codes_are_encoded_into_a_file_that_knows_its_codebooks(tmp_path, capsys):
    model = tiny_compressed()
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "photos").mkdir()
    pictures = [noise(i) for i in range(5)]
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "5.png").write_bytes(b"no picture")
    out = tmp_path / "codes.safetensors"
    encode = ["encode", str(tmp_path / "model"), f"--images={tmp_path / 'photos'}", "--codes", "--precision=fp32"]
    run([*encode, f"--out={out}", "--workers=0"])
    said = capsys.readouterr().out
    assert f"codes of 12 bytes for each of 5; codebooks {model.codebooks_hash[:12]}" in said and "skipped 1" in said
    assert [one["id"] for one in json.loads((tmp_path / "codes.skipped.json").read_text())] == ["5.png"]
    stored = read_codes(out, "codes", model.codebooks)
    assert stored.ids == [f"{i}.png" for i in range(5)]
    np.testing.assert_array_equal(stored.codes, model.encode_image_codes(pictures))
    np.testing.assert_array_equal(stored.codebooks, model.codebooks)
    texts = ["a photo of a dog", "red number"]
    codes = checked_codes(stored.codes, torch.from_numpy(stored.codebooks))
    scores, _ = search_index(flat_index(codes), model.encode_text(texts), 5)
    words = np.take_along_axis(model.codebooks[None], stored.codes[..., None, None].astype(int), axis=3).squeeze(3)
    parts = model.encode_text(texts).reshape(2, 3, 4, 4) * 12**0.5
    expected = np.einsum("qvmd,cvmd->qc", parts, words) / 12
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1), atol=1e-5)


def test_codes_of_others_and_damaged_ones_are_refused(tmp_path):
    model, path = tiny_compressed(), tmp_path / "codes.safetensors"
    books = torch.from_numpy(model.codebooks)
    good = {
        "codes": torch.zeros(2, 3, 4, dtype=torch.uint8),
        "codebooks": books,
        "hash": torch.frombuffer(bytearray(codebooks_hash(books).encode()), dtype=torch.uint8),
        "ids": torch.frombuffer(bytearray(b'["a", "b"]'), dtype=torch.uint8),
    }
    save_file(good, path)
    assert read_codes(path, "codes", model.codebooks).ids == ["a", "b"]
    with pytest.raises(
        InputError, match=r"^codes: .*: codes of other codebooks \(\w{12}\) than the model's \(\w{12}\); enc"
    ):
        read_codes(path, "codes", np.roll(model.codebooks, 1, axis=2))
    for changed, message in (
        ({"codebooks": books.roll(1, 2).contiguous()}, r"is damaged: codes of other codebooks"),
        ({"hash": torch.zeros(3)}, r"is damaged: codes of other codebooks"),
        ({"codes": torch.full((2, 3, 4), 6, dtype=torch.uint8)}, r": code 6 of part 0 of item 0 is beyond"),
        ({"codes": torch.zeros(2, 3, 5, dtype=torch.uint8)}, r"accepted: uint8 with 12 codes"),
        ({"codes": torch.zeros(3, 3, 4, dtype=torch.uint8)}, r" holds no codes; give a \.safetensors of `tcl encode"),
        ({"ids": torch.zeros(3, dtype=torch.uint8)}, r" holds no codes; give"),
        ({"codebooks": torch.zeros(3)}, r" holds no codes; give"),
    ):
        save_file(good | changed, path)
        with pytest.raises(InputError, match=rf"^codes: .*{message}"):
            read_codes(path, "codes", model.codebooks)
    save_file({name: value for name, value in good.items() if name != "hash"}, path)
    with pytest.raises(InputError, match=r"^codes: .*is damaged: codes of other codebooks"):
        read_codes(path, "codes")
    assert load_file(path).keys() == good.keys() - {"hash"}


def test_codes_are_for_embeddings_without_a_bank(tmp_path):
    with pytest.raises(InputError, match=r"^codes: they are searched as they are; give --bank with embeddings$"):
        run(["encode", "x", "--texts=x", "--codes", "--bank=x", f"--out={tmp_path / 'x.safetensors'}"])


def test_a_text_without_words_is_refused():
    with pytest.raises(InputError, match=r"^texts\[1\]: .* no words"):
        tiny_compressed().encode_text_codes(["a dog", "?!"])
