"""Recall at k, means and median rank of image-text retrieval, from the rank of each query's first right answer."""

from torch import Tensor

CUTS = (1, 5, 10)


def rank_metrics(image_ranks: Tensor, caption_ranks: Tensor) -> dict[str, float]:
    """Ranks (from 1) of all image queries and all caption queries -> what is reported.

    {"i2t_r1", "i2t_r5", "i2t_r10", "i2t_mean" (of the three), "i2t_median_rank", the same for t2i, "mean" (of both
    means)}; recalls in percent.
    """
    metrics = {}
    for name, ranks in (("i2t", image_ranks), ("t2i", caption_ranks)):
        recalls = [100 * (ranks <= k).float().mean().item() for k in CUTS]
        metrics |= {f"{name}_r{k}": recall for k, recall in zip(CUTS, recalls, strict=True)}
        metrics[f"{name}_mean"] = sum(recalls) / len(recalls)
        metrics[f"{name}_median_rank"] = float(ranks.float().quantile(0.5))
    return metrics | {"mean": (metrics["i2t_mean"] + metrics["t2i_mean"]) / 2}
