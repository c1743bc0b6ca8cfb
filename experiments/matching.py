"""How often ITM tells pairs from negatives, among held-out pairs: as in training, in eval mode.

    python -m experiments.matching --output_dir OUT --run RUN --val 'dev/*.tar'

Pairs come in batches of 64 images with one caption each, for each of their captions in turn; negatives are drawn from
the batch. OUT/metrics.jsonl gets, in percent, eval_itm_accuracy_hard, of negatives drawn in proportion to
e^{similarity / temperature}, as published, of which the embeddings can tell nothing; eval_itm_accuracy, of those drawn
with objective.itm_hardness 0.3; eval_itm_accuracy_any, of any. Always "no" would be right in 66.7.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from tcl import TCL, load_model
from tcl.commands.one_line import end_with_one_line
from tcl.data.images.decode_image import decode_image
from tcl.data.sets.retrieval_set import RetrievalSet, load_retrieval_set
from tcl.data.texts.tokenize import tokenize
from tcl.losses.itm import image_text_matching, matching_labels
from tcl.objectives.hard_negatives import draw_batch_negatives

BATCH = 64
MAX_PIXELS = 10**7
HARDNESS = {"_hard": 1.0, "": 0.3, "_any": 0.0}


@torch.no_grad()
def matching_accuracy(model: TCL, pairs: RetrievalSet, hardness: float) -> float:
    """Percent of B positives and 2B negatives, over all batches of at least two. hardness: objective.itm_hardness."""
    student, encoders, kept = model.student, model.student.encoders, model.pretrained
    captions_of: list[list[int]] = [[] for _ in pairs.images]
    for image, caption in pairs.pairs:
        captions_of[image].append(caption)
    right = told = 0.0
    for start in range(0, len(pairs.images), BATCH):
        images = range(start, min(start + BATCH, len(pairs.images)))
        shown = torch.stack([model.transform(decode_image(pairs.images[i], max_pixels=MAX_PIXELS)) for i in images])
        tokens_of = encoders.image_encoder(shown)
        for round_ in range(max(len(captions_of[i]) for i in images)):
            rows = [row for row, i in enumerate(images) if len(captions_of[i]) > round_]
            if len(rows) < 2:
                continue
            texts = [pairs.captions[captions_of[images[row]][round_]] for row in rows]
            ids, mask = tokenize(kept.tokenizer, texts, max_tokens=kept.max_tokens)
            image_tokens, text_tokens = tokens_of[rows], encoders.text_encoder(ids, mask)
            image, text = encoders.project_image(image_tokens[:, 0]), encoders.project_text(text_tokens[:, 0])
            logits = hardness * image @ text.T / student.temperature
            negatives = draw_batch_negatives(logits, logits.T)
            seen = encoders.fusion_encoder.compress(image_tokens)
            fused, _ = student.fuse(seen, text_tokens, text_tokens[:0], mask, negatives)
            labels = matching_labels(len(rows), negatives.valid_images, negatives.valid_texts)
            accuracy = image_text_matching(student.itm_head(fused), labels)[1].item()
            right, told = right + accuracy * len(labels), told + len(labels)
    return 100 * right / told


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--run", required=True, help="a run, one of its checkpoints, or an export")
    parser.add_argument("--val", required=True, help="shards of held-out pairs")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    given = parser.parse_args(arguments)
    torch.manual_seed(given.seed)
    model = load_model(given.run)
    pairs = load_retrieval_set(given.val, max_words=model.pretrained.max_words, max_pixels=MAX_PIXELS)
    accuracies = {
        f"eval_itm_accuracy{name}": matching_accuracy(model, pairs, hardness) for name, hardness in HARDNESS.items()
    }
    found = {"step": 0, **accuracies}
    given.output_dir.mkdir(parents=True, exist_ok=True)
    (given.output_dir / "metrics.jsonl").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    end_with_one_line(main)
