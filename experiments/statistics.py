"""Mean and spread over seeds, and differences that are paired by seed."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t


@dataclass(frozen=True)
class Difference:
    """Of paired values: the mean, and half the width of its 95 % confidence interval (Student's t)."""

    mean: float
    half_width: float
    """Infinite where there is but one pair."""
    pairs: int

    @property
    def is_sure(self) -> bool:
        """Does the interval leave out 0?"""
        return abs(self.mean) > self.half_width


def spread(values: Sequence[float]) -> float:
    """Standard deviation of the population that `values` are drawn from; NaN of a single one."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


def paired_difference(values: Sequence[float], others: Sequence[float]) -> Difference:
    """values - others, which belong together one by one. Both as long, at least one."""
    differences = [value - other for value, other in zip(values, others, strict=True)]
    n = len(differences)
    if n == 1:
        return Difference(differences[0], math.inf, 1)
    error = statistics.stdev(differences) / math.sqrt(n)
    return Difference(statistics.mean(differences), float(t.ppf(0.975, n - 1)) * error, n)
