"""Packing: whole trajectories into packs of a budget of tokens, for as many epochs as it takes.

The paper trains on packs of 33,000 tokens. An epoch draws from each subset its share of samples, in an order that
depends on the seed and the epoch alone, and packs them: a pack begins with the sample that has waited longest and is
filled with the longest of those next in order that fits, again and again. (First-fit-decreasing over the whole epoch
would waste less, but put like with like.)
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np

OnLong = Literal["raise", "skip"]
WINDOW = 256
"""Samples that are looked at to fill a pack; measured on lengths like the paper's, of which one or two make a pack
(``tests/sft/test_packing.py``, at full size): 16 waste 8 %, 64 5.3 %, 256 4.6 %, 1,024 4.3 %."""


class Choice(NamedTuple):
    """A sample of a source."""

    source: int
    sample: int


class Packing:
    """The packs of all epochs; each is a function of (seed, number) alone."""

    skipped: list[list[int]]
    """Samples of each source that are longer than a pack and were left out."""

    def __init__(
        self,
        lengths: Sequence[np.ndarray],
        budget: int,
        *,
        shares: Sequence[float] | None = None,
        seed: int = 0,
        on_long: OnLong = "raise",
        names: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Args:

        lengths: int (N,) of each source: tokens of its samples.
        budget: Most tokens of a pack.
        shares: Of the samples drawn, of each source, in any unit; ``None``: as many as each has. An epoch draws as
            many samples as there are.
        seed: Decides the order.
        on_long: What to do with a sample that is longer than the budget: raise, or leave it out.
        names: What error messages call the samples; ``None``: their numbers.

        Raises:
            ValueError: A sample that is longer than the budget, a source without samples.
        """
        if on_long not in get_args(OnLong):
            raise ValueError(f"Expected on_long to be one of {', '.join(get_args(OnLong))}, got {on_long!r}.")
        self.lengths, self.budget, self.seed = list(lengths), budget, seed
        self.skipped = [np.flatnonzero(each > budget).tolist() for each in self.lengths]
        if on_long == "raise" and any(self.skipped):
            self._refuse(names)
        self._usable = [np.flatnonzero(each <= budget) for each in self.lengths]
        if not self._usable or not all(len(each) for each in self._usable):
            raise ValueError(
                f"Expected samples of at most {budget} tokens in every source, got none in one; raise the budget."
            )
        self._counts = self._draws(shares)
        self._sizes: list[int] = []  # packs of each epoch
        self._epoch = lru_cache(maxsize=2)(self._make)

    def _refuse(self, names: Sequence[Sequence[str]] | None) -> None:
        source = next(k for k, found in enumerate(self.skipped) if found)
        index = self.skipped[source][0]
        name = index if names is None else names[source][index]
        more = sum(map(len, self.skipped)) - 1
        raise ValueError(
            f"Expected trajectories of at most {self.budget} tokens, got sample {name!r} of "
            f"{self.lengths[source][index]}{f' and {more} more' if more else ''}; raise the budget, or leave them out "
            "with on_long=skip."
        )

    def _draws(self, shares: Sequence[float] | None) -> list[int]:
        """Samples that an epoch draws of each source: the largest remainders are rounded up."""
        sizes = np.array([len(each) for each in self._usable])
        if shares is None:
            return sizes.tolist()
        weights = np.array(shares, float)
        if len(weights) != len(sizes) or not (weights > 0).all():
            raise ValueError(f"Expected a share above 0 for each of {len(sizes)} sources, got {list(shares)}.")
        exact = weights / weights.sum() * sizes.sum()
        counts = np.floor(exact).astype(int)
        counts[np.argsort(counts - exact, kind="stable")[: sizes.sum() - counts.sum()]] += 1
        return counts.tolist()

    def epoch(self, number: int) -> list[tuple[Choice, ...]]:
        """The packs of an epoch, in order."""
        return self._epoch(number)

    def __getitem__(self, number: int) -> tuple[Choice, ...]:
        """Pack ``number``, counted over all epochs."""
        epoch, start = 0, 0
        while True:
            if epoch == len(self._sizes):
                self._sizes.append(len(self.epoch(epoch)))
            if number < start + self._sizes[epoch]:
                return self.epoch(epoch)[number - start]
            start += self._sizes[epoch]
            epoch += 1

    def tokens(self, number: int) -> int:
        """Tokens of a pack."""
        return sum(int(self.lengths[source][index]) for source, index in self[number])

    def waste(self, epoch: int = 0) -> float:
        """Share of an epoch's budget that is left empty."""
        packs = self.epoch(epoch)
        used = sum(int(self.lengths[source][index]) for pack in packs for source, index in pack)
        return 1 - used / (len(packs) * self.budget)

    def _make(self, number: int) -> list[tuple[Choice, ...]]:
        drawn = [
            Choice(source, int(index)) for source in range(len(self._usable)) for index in self._stream(source, number)
        ]
        rng = np.random.default_rng([self.seed, 11, number])
        order = [drawn[k] for k in rng.permutation(len(drawn))]
        lengths = [int(self.lengths[source][index]) for source, index in order]
        return [tuple(order[k] for k in members) for members in fill(lengths, self.budget)]

    def _stream(self, source: int, epoch: int) -> Iterator[int]:
        """The samples of a source that an epoch draws: the next ones of endless permutations of all of them."""
        usable, count = self._usable[source], self._counts[source]
        first, last = epoch * count, (epoch + 1) * count
        for lap in range(first // len(usable), -(-last // len(usable))):
            shuffled = np.random.default_rng([self.seed, 12, source, lap]).permutation(usable)
            begin = lap * len(usable)
            yield from shuffled[max(0, first - begin) : last - begin]


def fill(lengths: Sequence[int], budget: int, window: int = WINDOW) -> list[list[int]]:
    """Numbers of the samples in each pack, see above; every one is in one pack, none is longer than ``budget``."""
    waiting: list[tuple[int, int]] = []  # (length, number), sorted
    taken = [False] * len(lengths)
    packs: list[list[int]] = []
    oldest = entered = 0

    def refill() -> None:
        nonlocal entered
        while len(waiting) < window and entered < len(lengths):
            insort(waiting, (lengths[entered], entered))
            entered += 1

    refill()
    while waiting:
        while taken[oldest]:
            oldest += 1
        position = bisect_left(waiting, (lengths[oldest], oldest))
        members, room = [], budget
        while position >= 0:
            length, number = waiting.pop(position)
            members.append(number)
            taken[number] = True
            room -= length
            refill()
            position = bisect_right(waiting, (room, len(lengths))) - 1
        packs.append(members)
    return packs
