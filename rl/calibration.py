"""Calibration: how well probabilities of "yes" tell right from wrong, and how far they can be taken at their word.

AUC is the share of pairs of a right and a wrong one that stand in the right order, ties counting half (the statistic of
Mann and Whitney). Within prompts it is that of pairs of one prompt and painter alone, which is what a search goes by: a
verifier that knows only which prompts are hard, or who drew, has an AUC and none within prompts. With y right and n
wrong ones a prompt and painter counts y n / (y + n) times (the weight of N. Mantel and W. Haenszel, 1959), so that it
counts by its answers and not by their square. The Brier score is the mean squared distance of a probability from the
truth, 0 or 1; the Brier skill is the share by which it is lower than that of the base rate, said of everything
(G. Brier, 1950). The expected calibration error (ECE; C. Guo et al., arXiv 1706.04599, for two classes) sorts
probabilities into equal bins of [0, 1] and takes the mean distance, over all answers, between what a bin says and how
often it is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..rewards.interval import Interval, resampled

BINS = 10
"""Of a reliability table. Guo et al. take 15 on 10,000 answers; here there are hundreds."""


class Bin(NamedTuple):
    """Answers of about one probability."""

    low: float
    """Least probability; the last bin also holds 1."""
    num: int
    said: float
    """Mean probability."""
    true: float
    """Share that is true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Answers held against the truth; intervals of 95 % are over whole prompts."""

    num: int
    """Answers."""
    num_prompts: int
    share: float
    """Of them that ought to be yes."""
    auc: Interval | None
    """``None``: all ought to be the same."""
    auc_within: Interval | None
    """Of pairs of one prompt and painter; ``None``: there are no such pairs."""
    accuracy: Interval
    """Of the more probable word; even odds are yes."""
    brier: Interval
    skill: Interval | None
    """Brier skill: 1 is faultless, 0 no better than the base rate; ``None``: all ought to be the same."""
    ece: float
    """Without an interval: resampling makes it larger than it is."""
    bins: tuple[Bin, ...]
    """Those that hold answers."""

    @property
    def is_learnt(self) -> bool:
        """Whether right and wrong are told apart by the image: the interval of AUC within prompts lies above .5."""
        return self.auc_within is not None and self.auc_within.low is not None and self.auc_within.low > 0.5

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        means = {name: getattr(self, name) for name in ("auc", "auc_within", "accuracy", "brier", "skill")}
        return {
            "num": self.num,
            "num_prompts": self.num_prompts,
            "share": self.share,
            **{name: None if value is None else value._asdict() for name, value in means.items()},
            "ece": self.ece,
            "bins": [each._asdict() for each in self.bins],
        }


def calibration(
    said: Sequence[float], truth: Sequence[bool], prompts: Sequence[str], painters: Sequence[str]
) -> Calibration:
    """Hold probabilities of yes against the truth.

    Args:
        said: In [0, 1].
        truth: Whether each ought to be yes.
        prompts: What each was asked about: answers about one prompt are alike.
        painters: Who drew it; order "within prompts" is that of one prompt's drawings by one painter.

    Raises:
        ValueError: No answers, or not as many of one as of the other.
    """
    if not len(said) == len(truth) == len(prompts) == len(painters) > 0:
        lengths = ", ".join(str(len(each)) for each in (said, truth, prompts, painters))
        raise ValueError(f"Expected answers with a truth, a prompt and a painter each, got {lengths}.")
    p, is_yes = np.asarray(said, float), np.asarray(truth, bool)
    hits, misses = (p >= 0.5) == is_yes, (p - is_yes) ** 2
    accuracy = resampled(prompts, lambda weights: float(np.average(hits, weights=weights)))
    brier = resampled(prompts, lambda weights: float(np.average(misses, weights=weights)))
    assert accuracy is not None and brier is not None

    def skill(weights: np.ndarray) -> float | None:
        base = float(np.average(is_yes, weights=weights))
        return 1 - float(np.average(misses, weights=weights)) / (base * (1 - base)) if 0 < base < 1 else None

    bins = reliability(p, is_yes)
    return Calibration(
        num=len(p),
        num_prompts=len(set(prompts)),
        share=float(is_yes.mean()),
        auc=resampled(prompts, lambda weights: auc(p, is_yes, weights)),
        auc_within=_within(p, is_yes, prompts, painters),
        accuracy=accuracy,
        brier=brier,
        skill=resampled(prompts, skill),
        ece=sum(each.num * abs(each.said - each.true) for each in bins) / len(p),
        bins=bins,
    )


def auc(said: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    """Share of (right, wrong) pairs that stand in the right order; ``None``: there are no such pairs.

    Args:
        said: float (N,).
        truth: bool (N,).
        weights: float (N,): how often each counts; default once.
    """
    weights = np.ones(len(said)) if weights is None else weights
    rank = np.unique(said, return_inverse=True)[1]
    right, wrong = np.bincount(rank, weights * truth), np.bincount(rank, weights * ~truth)
    num_pairs = right.sum() * wrong.sum()
    below = np.cumsum(wrong) - wrong
    return float((right * (below + wrong / 2)).sum() / num_pairs) if num_pairs else None


def _within(said: np.ndarray, truth: np.ndarray, prompts: Sequence[str], painters: Sequence[str]) -> Interval | None:
    """AUC over pairs of one prompt and painter, by Mantel and Haenszel's weights."""
    groups: dict[tuple[str, str], list[int]] = {}
    for row, group in enumerate(zip(prompts, painters, strict=True)):
        groups.setdefault(group, []).append(row)
    names, weights, in_order = list[str](), list[float](), list[float]()
    for (prompt, _), rows in groups.items():
        if (share := auc(said[rows], truth[rows])) is not None:
            num_yes = int(truth[rows].sum())
            names.append(prompt)
            weights.append(num_yes * (len(rows) - num_yes) / len(rows))
            in_order.append(share * weights[-1])
    if not names:
        return None
    return resampled(names, lambda times: float(times @ in_order) / float(times @ weights))


def reliability(said: np.ndarray, truth: np.ndarray, num: int = BINS) -> tuple[Bin, ...]:
    """What was said against what was true, in ``num`` equal bins of [0, 1]; empty ones are left out."""
    place = np.minimum((said * num).astype(int), num - 1)
    return tuple(
        Bin(k / num, int(mine.sum()), float(said[mine].mean()), float(truth[mine].mean()))
        for k in range(num)
        if (mine := place == k).any()
    )
