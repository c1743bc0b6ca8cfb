"""The two-stage scorer against the plain loop over queries, same weights, same run, same recalls.

    python -m benchmarks.retrieval [--images 200 --captions 1000 --k 64 --width 192 --repeats 3]

Random weights and images; the lengths of captions are drawn like Flickr8k's (mean 12.5 tokens, standard deviation 4),
and the plain side pads all of them to 30 tokens, as the published evaluation does. Prints a table and writes
benchmarks/results/. Only the second stage is timed: both sides share the embeddings.
"""

import jsonargparse
import torch
from accelerate import Accelerator

from benchmarks.measure import interleaved, ratio, save
from benchmarks.textbook.retrieval import rerank_query_by_query
from tcl.config import ImageEncoderConfig, ModelConfig, ObjectiveConfig, TextEncoderConfig
from tcl.evaluation.candidates import rank_again, rank_by_embedding, relevance
from tcl.evaluation.match_pairs import read_texts
from tcl.evaluation.recall import rank_metrics
from tcl.evaluation.retrieval import match_candidates
from tcl.models.encoders import build_encoders
from tcl.models.tcl import TCLStudent

VOCABULARY, MAX_TOKENS = 30522, 30


class KeptTokens:
    """Image tokens that are all in memory, as the plain side has them."""

    def __init__(self, tokens: torch.Tensor):
        self.tokens = tokens

    def encode(self, indices):
        return ((index, self.tokens[index]) for index in indices)


@torch.no_grad()
def main(
    images: int = 200,
    captions: int = 1000,
    k: int = 64,
    width: int = 192,
    image_size: int = 256,
    pass_tokens: int = 8192,
    repeats: int = 3,
) -> None:
    """width: of ViT-*/16 (12 layers) and BERT (12 layers, 6 of them fusion)."""
    torch.manual_seed(0)
    heads = width // 64
    model = ModelConfig(
        image=ImageEncoderConfig(image_size=image_size, overrides={"embed_dim": width, "num_heads": heads}),
        text=TextEncoderConfig(
            overrides={"hidden_size": width, "num_attention_heads": heads, "intermediate_size": 4 * width}
        ),
    )
    student = TCLStudent(build_encoders(model, VOCABULARY, pad_id=0), ObjectiveConfig()).eval()
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    lengths = (12.5 + 4 * torch.randn(captions)).round().long().clamp(5, MAX_TOKENS)
    mask = (torch.arange(MAX_TOKENS) < lengths[:, None]).long()
    ids = torch.randint(5, VOCABULARY, (captions, MAX_TOKENS)) * mask
    tokens = torch.cat(
        [student.encoders.image_encoder(torch.randn(25, 3, image_size, image_size)) for _ in range(-(-images // 25))]
    )[:images]
    text_tokens = student.encoders.text_encoder(ids, mask)
    image_features = student.encoders.project_image(tokens[:, 0])
    text_features = student.encoders.project_text(text_tokens[:, 0])
    similarity = image_features @ text_features.T
    of_captions = torch.arange(captions)
    of_images = of_captions * images // captions
    captions_of, images_of = relevance(of_images, of_captions, images), relevance(of_captions, of_images, captions)
    by_image = rank_by_embedding(image_features, text_features, captions_of, k)
    by_caption = rank_by_embedding(text_features, image_features, images_of, k)
    found = {}

    def plain() -> None:
        scores_i2t, scores_t2i = rerank_query_by_query(student, tokens, text_tokens, mask, similarity, k)
        found["plain"] = scores_i2t.gather(1, by_image.candidates), scores_t2i.gather(1, by_caption.candidates)

    def ours() -> None:
        _, states = read_texts(student.encoders, ids, mask, pass_tokens=pass_tokens, autocast=accelerator.autocast)
        found["ours"] = match_candidates(
            accelerator, student, KeptTokens(tokens), states, by_image.candidates, by_caption.candidates, pass_tokens
        )

    seconds = interleaved({"plain": plain, "ours": ours}, repeats)
    metrics = {}
    for name, (image_scores, caption_scores) in found.items():
        ranks = (
            rank_again(by_image, image_scores, captions_of, captions).ranks,
            rank_again(by_caption, caption_scores, images_of, images).ranks,
        )
        metrics[name] = rank_metrics(*ranks)
    difference = max(float((a - b).abs().max()) for a, b in zip(found["plain"], found["ours"], strict=True))
    same = metrics["plain"] == metrics["ours"]
    speed = ratio(seconds, "plain", "ours")
    print(f"re-ranking {images} images x {captions:,} captions, k {k}, width {width}, {image_size} px")
    for name, values in seconds.items():
        print(f"  {name:6s} {sorted(values)[len(values) // 2]:8.1f} s")
    print(f"  {speed['median']:.1f} times as fast (least {speed['least']:.1f}, most {speed['most']:.1f})")
    print(f"  same recalls: {same}; largest difference of a score: {difference:.1e}")
    options = {"images": images, "captions": captions, "k": k, "width": width, "image_size": image_size}
    path = save(
        "retrieval",
        {
            "options": options,
            "seconds": seconds,
            "ratio": speed,
            "same_recalls": same,
            "largest_difference": difference,
            "metrics": metrics,
        },
    )
    print(path)


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
