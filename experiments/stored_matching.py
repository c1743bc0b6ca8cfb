"""How well a model re-ranks from image tokens that were stored, in fp16 and in int8, and what an image takes.

    python -m experiments.stored_matching --output_dir OUT --run RUN --val 'dev/*.tar' --similarity 0.5

OUT/metrics.jsonl gets, for either storage, the bytes of an image (eval_int8_bytes) and R@1 in percent both ways
(eval_int8_i2t_r1) of the CANDIDATES best by embedding, ordered by ITM's logit of "match" and --similarity times the
cosine over the temperature (eval.rerank_similarity of an evaluation).
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch

from experiments.recalls import CANDIDATES, recalls
from tcl import TCL, load_model
from tcl.commands.one_line import end_with_one_line
from tcl.data.sets.retrieval_set import RetrievalSet, load_retrieval_set
from tcl.data.tokens.stored_tokens import Storage
from tcl.inference.embed import Embedded

MAX_PIXELS = 10**7


def recall_at_1(model: TCL, query: Embedded, corpus: Embedded, right: set[tuple[int, int]], similarity: float) -> float:
    """Percent of queries whose first is right: (query, item of the corpus)."""
    candidates = min(CANDIDATES, len(corpus.items))
    found = model.retrieve(query, corpus, k=candidates, candidates=candidates)
    scores = found.match_scores + similarity / model.temperature * found.similarities
    return recalls(found.ids, scores, right)["r1"]


def stored_figures(model: TCL, pairs: RetrievalSet, storage: Storage, similarity: float) -> dict[str, float]:
    """Of all images and captions, from a file of tokens that is removed again."""
    texts = model.embed_texts(pairs.captions)
    with tempfile.TemporaryDirectory() as folder:
        images = model.store_tokens(pairs.images, Path(folder, "images.tokens"), storage=storage)
        found = {
            "bytes": Path(folder, "images.tokens").stat().st_size / len(pairs.images),
            "i2t_r1": recall_at_1(model, images, texts, set(pairs.pairs), similarity),
            "t2i_r1": recall_at_1(model, texts, images, {(text, image) for image, text in pairs.pairs}, similarity),
        }
    return {f"eval_{storage}_{name}": value for name, value in found.items()}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--run", required=True, help="a run, one of its checkpoints, or an export")
    parser.add_argument("--val", required=True, help="shards of held-out pairs")
    parser.add_argument("--similarity", type=float, default=0.0, help="weight of the embeddings' similarity")
    parser.add_argument("--seed", type=int, default=0, help="draws nothing")
    given = parser.parse_args(arguments)
    torch.manual_seed(given.seed)
    model = load_model(given.run)
    pairs = load_retrieval_set(given.val, max_words=model.pretrained.max_words, max_pixels=MAX_PIXELS)
    found: dict[str, float] = {"step": 0}
    for storage in get_args(Storage):
        found |= stored_figures(model, pairs, storage, given.similarity)
    given.output_dir.mkdir(parents=True, exist_ok=True)
    (given.output_dir / "metrics.jsonl").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    end_with_one_line(main)
