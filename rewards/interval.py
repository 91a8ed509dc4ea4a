"""Interval: a mean and how far it can be trusted, when drawings of one prompt are alike.

Percentiles of a cluster bootstrap (B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993):
whole prompts are drawn with replacement, task by task, from a seeded generator. "overall" is the
unweighted mean of the tasks, as in GenEval.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

OVERALL = "overall"


class Interval(NamedTuple):
    """A mean and its interval of 95 %."""

    mean: float
    low: float | None
    """``None`` below two prompts: nothing can be said."""
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def intervals(
    tasks: Mapping[str, Sequence[tuple[str, float | None]]], resamples: int = 2000, seed: int = 0
) -> dict[str, Interval | None]:
    """Mean and interval of each task, and of "overall".

    Args:
        tasks: (prompt, value) pairs of each task; a value of ``None`` counts nowhere.
        resamples: Bootstrap draws; 2,000 give the ends of an interval to about a tenth of its width.
        seed: Of the bootstrap alone.

    Returns:
        ``None`` for a task without any value.
    """
    rng = np.random.default_rng(seed)
    result: dict[str, Interval | None] = {}
    means, draws, sizes = list[float](), list[np.ndarray](), list[int]()
    for task, pairs in tasks.items():
        clusters: dict[str, list[float]] = {}
        for prompt, value in pairs:
            if value is not None:
                clusters.setdefault(prompt, []).append(float(value))
        if not clusters:
            result[task] = None
            continue
        sums = np.array([sum(values) for values in clusters.values()])
        lengths = np.array([len(values) for values in clusters.values()])
        times = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
        means.append(float(sums.sum() / lengths.sum()))
        draws.append((times @ sums) / (times @ lengths))
        sizes.append(len(sums))
        result[task] = _interval(means[-1], draws[-1], sizes[-1])
    result[OVERALL] = _interval(float(np.mean(means)), np.mean(draws, 0), min(sizes)) if means else None
    return result


def resampled(
    prompts: Sequence[str], statistic: Callable[[np.ndarray], float | None], resamples: int = 2000, seed: int = 0
) -> Interval | None:
    """Any statistic of rows, and its interval.

    Args:
        prompts: Of each row.
        statistic: Takes how often each row counts, float (rows,); ``None``: it has no value for these.
        resamples: Bootstrap draws; those for which there is no value are passed over.
        seed: Of the bootstrap alone.

    Returns:
        ``None`` where the statistic has no value for the rows as they are.
    """
    value = statistic(np.ones(len(prompts)))
    if value is None:
        return None
    names, cluster = np.unique(np.asarray(prompts), return_inverse=True)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    found = [draw for row in times if (draw := statistic(row[cluster].astype(float))) is not None]
    return _interval(value, np.array(found), len(names))


def _interval(mean: float, draws: np.ndarray, clusters: int) -> Interval:
    if clusters < 2:
        return Interval(mean, None, None)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(mean, float(low), float(high))
