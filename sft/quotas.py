"""Quotas: so many right and so many wrong samples in every chunk, as different from each other as there are candidates.

Candidates come as they are drawn or sampled: right ones mostly of the first steps, wrong ones of later steps, and wrong
ones alone of a second source where the first does not err. A model would learn to read the label off the step. So
samples are chosen cell by cell, of (step, whether a detour is pending, source), as many right and wrong ones in each as
in the whole, as far as there are candidates: the cell says nothing of the label. Within a cell kinds of faults take
turns, so that what is rare is not left out. What comes out depends on the candidates and on a generator alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..envs.stages import Stage
from ..envs.transcript import Transcript
from .sample import Sample, Subset
from .scene_prompts import SPLITS
from .table1 import PAPER

SURPLUS = 1.2
"""Candidates gathered for each one wanted while there is time, so that there is something to choose from. Ours: a
fifth more work, and rare kinds double."""
EPSILON = 1e-9
"""Less than any share of a sample."""
MAX_COMPLETE = 0.4
"""Share of right samples after which nothing is missing; more only where others are wanting. Ours: most are
right and incomplete, or else an inspector learns to take incomplete for wrong."""


class Cell(NamedTuple):
    """What must not give the label away."""

    step: int
    is_pending: bool
    is_top_up: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A trajectory that could become a sample."""

    transcript: Transcript
    label: bool
    """Whether what the last inspection looks at is right."""
    step: int
    """Number of its round."""
    is_pending: bool = False
    """Whether something stands on the canvas before it that an earlier round announced as a placeholder."""
    source: str
    """"self-sampled", "symbolic" or "corrupted"."""
    kinds: tuple[str, ...] = ()
    """Of its faults; sorted, without repeats."""
    graph_hash: str = ""
    is_top_up: bool = False
    """Whether it is of a second source and taken only where others are wanting."""
    is_complete: bool = False
    """Whether nothing of the prompt is missing."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What else its provenance says."""

    @property
    def cell(self) -> Cell:
        """Where it is chosen."""
        return Cell(self.step, self.is_pending, self.is_top_up)

    @property
    def kind(self) -> str:
        """Of its fault, "several" or ""."""
        return self.kinds[0] if len(self.kinds) == 1 else "several" if self.kinds else ""


def quota(subset: Subset, start: int, num: int) -> tuple[int, int]:
    """Right and wrong ones among samples ``start`` to ``start + num`` of a subset; the sums of all are the paper's.

    Args:
        subset: One with labels.
        start: Number of the first sample.
        num: Of samples.
    """
    positives, total = (int(PAPER[subset][name]) for name in ("positive", "total"))
    before, after = (k * positives // total for k in (start, start + num))
    return after - before, num - (after - before)


class Harvest:
    """Candidates of one chunk, and what became of those that are none.

    Args:
        positives: Right ones wanted.
        negatives: Wrong ones wanted.
    """

    def __init__(self, positives: int, negatives: int) -> None:
        self.wanted = {True: positives, False: negatives}
        self.found: dict[bool, list[Candidate]] = {True: [], False: []}
        self.counts: Counter[str] = Counter()
        self._said: set[tuple[str, ...]] = set()

    def gather(self, batch: Callable[[int], Iterable[Candidate | str]], firsts: Iterable[int]) -> None:
        """Take batch after batch, each by the number of its first candidate, until there is a surplus of them all."""
        for first in firsts:
            if not self.lacks(SURPLUS):
                return
            self.take(batch(first))

    def take(self, outcomes: Iterable[Candidate | str]) -> None:
        """Keep candidates that say something new while their label is wanted; a string is why there is none."""
        for outcome in outcomes:
            if isinstance(outcome, str):
                self.counts[outcome] += 1
                continue
            said = _words(outcome.transcript)
            self.counts["said before" if said in self._said else "right" if outcome.label else "wrong"] += 1
            if said not in self._said:
                self._said.add(said)
                self.found[outcome.label].append(outcome)

    def lacks(self, surplus: float = 1.0) -> bool:
        """Whether cells have room for less than ``surplus`` times what is wanted."""
        return any(self.wanted.values()) and sum(self.room.values()) < surplus - EPSILON

    @property
    def room(self) -> dict[Cell, float]:
        """The share of what is wanted that each cell has both right and wrong candidates for."""
        wanted = {label: num for label, num in self.wanted.items() if num}
        there = {label: Counter(each.cell for each in self.found[label]) for label in wanted}
        cells = sorted({cell for counts in there.values() for cell in counts})
        return {cell: min(there[label][cell] / num for label, num in wanted.items()) for cell in cells}

    def samples(self, subset: Subset, split: str, seed: int, start: int) -> list[Sample]:
        """The samples of the chunk that begins with sample ``start``; ``ValueError``: there are too few candidates."""
        chosen = self.chosen(np.random.default_rng([seed, SPLITS.index(split), start]))
        return [_sample(each, subset, split, seed, start + k) for k, each in enumerate(chosen)]

    def chosen(self, rng: np.random.Generator) -> list[Candidate]:
        """The samples, in random order.

        Raises:
            ValueError: There are too few candidates.
        """
        if any(len(self.found[label]) < num for label, num in self.wanted.items()):
            raise ValueError(
                f"Expected {self.wanted[True]} right and {self.wanted[False]} wrong candidates, got "
                f"{len(self.found[True])} and {len(self.found[False])} ({self.told}); allow more tries, or use another "
                "source."
            )
        shares = self._shares()
        picked = [each for label in (True, False) for each in self._picked(label, shares, rng)]
        return [picked[int(k)] for k in rng.permutation(len(picked))]

    def _shares(self) -> dict[Cell, float]:
        """The share of the samples that is taken from each cell, right and wrong alike; 1 together if there is room."""
        room = self.room
        own = evenly({cell: share for cell, share in room.items() if not cell.is_top_up}, 1.0)
        spare = {cell: share for cell, share in room.items() if cell.is_top_up}
        return own | evenly(spare, 1.0 - sum(own.values()))

    def _picked(self, label: bool, shares: Mapping[Cell, float], rng: np.random.Generator) -> list[Candidate]:
        """The samples of a label; where cells have too little room, the rest comes from anywhere."""
        cells: dict[Cell, list[Candidate]] = {cell: [] for cell in shares}
        for each in self.found[label]:
            cells.setdefault(each.cell, []).append(each)
        nums = counts_of(self.wanted[label], shares)
        parts = {
            cell: [[each for each in cells[cell] if each.is_complete is key] for key in (True, False)] for cell in nums
        }
        complete = complete_of(nums, {cell: (len(whole), len(others)) for cell, (whole, others) in parts.items()})
        picked = list[Candidate]()
        for cell, (whole, others) in parts.items():
            picked += balanced(whole, complete[cell], rng) + balanced(others, nums[cell] - complete[cell], rng)
        rest = [each for each in self.found[label] if each not in picked]
        return picked + balanced(rest, self.wanted[label] - len(picked), rng)

    @property
    def told(self) -> str:
        """The counts in words."""
        return ", ".join(f"{num} {reason}" for reason, num in sorted(self.counts.items()))


def evenly(room: Mapping[Cell, float], total: float) -> dict[Cell, float]:
    """``total`` divided among cells, as evenly as there is room."""
    shares: dict[Cell, float] = {}
    for number, cell in enumerate(sorted(room, key=lambda each: (room[each], each))):
        shares[cell] = min(room[cell], (total - sum(shares.values())) / (len(room) - number))
    return shares


def counts_of(num: int, shares: Mapping[Cell, float]) -> dict[Cell, int]:
    """``num`` samples divided by shares, largest remainders first."""
    exact = {cell: num * share for cell, share in shares.items()}
    counts = {cell: int(value + EPSILON) for cell, value in exact.items()}
    left = int(sum(exact.values()) + EPSILON) - sum(counts.values())
    for cell in sorted(exact, key=lambda each: (counts[each] - exact[each], each))[:left]:
        counts[cell] += 1
    return counts


def complete_of(nums: Mapping[Cell, int], there: Mapping[Cell, tuple[int, int]]) -> dict[Cell, int]:
    """How many samples of each cell are to be complete: those for which there are no others, and more up to the limit.

    Args:
        nums: Samples of each cell.
        there: Candidates of each cell that are complete, and that are not.
    """
    counts = {cell: max(0, num - there[cell][1]) for cell, num in nums.items()}
    left = max(0, int(MAX_COMPLETE * sum(nums.values())) - sum(counts.values()))
    for cell, num in nums.items():
        more = max(0, min(left, int(MAX_COMPLETE * num) - counts[cell], there[cell][0] - counts[cell]))
        counts[cell] += more
        left -= more
    return counts


def balanced(candidates: Sequence[Candidate], num: int, rng: np.random.Generator) -> list[Candidate]:
    """``num`` candidates, taken from each kind in turn while it lasts; ties are random."""
    turns: Counter[str] = Counter()
    ranked = list[tuple[int, float, Candidate]]()
    for k in rng.permutation(len(candidates)):
        each = candidates[int(k)]
        ranked.append((turns[each.kind], rng.random(), each))
        turns[each.kind] += 1
    return [each for _, _, each in sorted(ranked, key=lambda item: item[:2])[:num]]


def wrong_by_step(samples: Sequence[Sample]) -> str:
    """The share of wrong ones at each step, in words."""
    steps: dict[int, list[bool]] = {}
    for sample in samples:
        steps.setdefault(sample.provenance["step"], []).append(not sample.label)
    shares = (f"{sum(wrong) / len(wrong):.0%} of {len(wrong)} at step {step}" for step, wrong in sorted(steps.items()))
    return f"wrong: {', '.join(shares)}"


def _sample(candidate: Candidate, subset: Subset, split: str, seed: int, number: int) -> Sample:
    candidate.transcript.id = f"{subset}-{candidate.source}-{split}-{seed}-{number}"
    candidate.transcript.seed = seed
    return Sample(
        subset=subset,
        transcript=candidate.transcript,
        label=candidate.label,
        kinds=candidate.kinds,
        graph_hash=candidate.graph_hash,
        split=split,
        provenance={"source": candidate.source, "number": number, "step": candidate.step, **candidate.notes},
    )


def _words(transcript: Transcript) -> tuple[str, ...]:
    """All that is said up to the inspection."""
    entries = transcript.emissions
    last = max((k for k, entry in enumerate(entries) if entry.stage is Stage.INSPECT), default=len(entries))
    return (transcript.prompt, *(str(entry.content) for entry in entries[: last + 1] if not entry.stage.is_image))
