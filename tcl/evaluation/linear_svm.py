"""The linear classifier of a probe: scaled features, and scikit-learn's LinearSVC, as MMV's published script has it
(deepmind-research, mmv/eval_ucf101.py; arXiv 2006.16228)."""

import numpy as np
from numpy.typing import NDArray

from tcl.optional_package import import_optional


def require_scikit_learn() -> None:
    """InputError: it is not installed."""
    import_optional("sklearn", "probe")


def decision_values(
    rows: NDArray[np.float32], labels: NDArray[np.int64], asked: NDArray[np.float32], C: float
) -> NDArray[np.float64]:
    """What a classifier that learns from `rows` [M, width] with their `labels` [M] says of `asked` [N, width]: [N,
    classes], of which the largest is the class.

    labels: each of 0 .. classes - 1 at least once, two classes or more. Every feature is scaled to mean 0 and deviation
    1 over `rows`. C > 0: what errors weigh beside the size of the weights.
    """
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    scaler = StandardScaler().fit(rows)
    # random_state: every process that fits finds the same. dual: by which of the two problems is the smaller.
    classifier = LinearSVC(C=C, dual="auto", random_state=0).fit(scaler.transform(rows), labels)
    values = classifier.decision_function(scaler.transform(asked))
    return values if values.ndim == 2 else np.stack([-values, values], axis=1)
