"""Re-scoring on photographs: the runs of `flickr8k`, arm model."""

from experiments.flickr8k import RUN, VAL, prepare
from experiments.rescoring import rescoring_experiment

EXPERIMENT = rescoring_experiment(
    "Re-scoring on Flickr8k",
    {
        "init": RUN,
        "data.val": VAL,
        "data.max_tokens": 18,
        "eval.rerank_k": 16,
        "eval.rerank_similarity": 0.5,
    },
    bank="$data/flickr8k/train/00000[0-1].tar",
    prepare=prepare,
)
