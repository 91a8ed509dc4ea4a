"""Quotas: so many right and so many wrong samples in every chunk, as different from each other as there are candidates.

Candidates come as they are drawn or sampled, mostly of the easy kinds and the first steps; samples are chosen among
them by turns over (kind, step), so that what is rare is not left out. What comes out depends on the candidates and on
a generator alone. The numbers are those of arXiv 2604.04746, Table 1.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..envs.transcript import Transcript
from .sample import Sample, Subset
from .scene_prompts import SPLITS

SURPLUS = 1.2
"""Candidates gathered for each one wanted while there is time, so that there is something to choose from. Ours: a
fifth more work, and rare kinds double."""
MAX_COMPLETE = 0.4
"""Share of right samples after which nothing is missing; more only where others are wanting. Ours: most are right
and incomplete, or else an inspector learns to take incomplete for wrong."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A trajectory that could become a sample."""

    transcript: Transcript
    label: bool
    """Whether what the last inspection looks at is right."""
    step: int
    """Number of its round."""
    source: str
    """"self-sampled", "symbolic", "corrupted" or "genref"."""
    kinds: tuple[str, ...] = ()
    """Of its faults; sorted, without repeats."""
    graph_hash: str = ""
    is_top_up: bool = False
    """Whether it is taken only where others are wanting."""
    is_complete: bool = False
    """Whether nothing of the prompt is missing."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What else its provenance says."""

    @property
    def cell(self) -> tuple[str, int]:
        """What samples are balanced over: the kind of its fault, and the step."""
        return (self.kinds[0] if len(self.kinds) == 1 else "several" if self.kinds else "", self.step)


def quota(start: int, num: int, positives: int, total: int) -> tuple[int, int]:
    """Right and wrong ones among samples ``start`` to ``start + num`` of a subset.

    Args:
        start: Number of the first sample.
        num: Of samples.
        positives: Right ones in the paper's subset of ``total``. Chunk after chunk, the sums are exact.
        total: Samples of the paper's subset.
    """
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
        """Whether there are fewer than ``surplus`` candidates for each one wanted."""
        return any(len(self.found[label]) < surplus * num for label, num in self.wanted.items())

    def samples(self, subset: Subset, split: str, seed: int, start: int) -> list[Sample]:
        """The samples of the chunk that begins with sample ``start``; ``ValueError``: there are too few candidates."""
        chosen = self.chosen(np.random.default_rng([seed, SPLITS.index(split), start]))
        return [_sample(each, subset, split, seed, start + k) for k, each in enumerate(chosen)]

    def chosen(self, rng: np.random.Generator) -> list[Candidate]:
        """The samples, in random order.

        Raises:
            ValueError: There are too few candidates.
        """
        if self.lacks():
            raise ValueError(
                f"Expected {self.wanted[True]} right and {self.wanted[False]} wrong candidates, got "
                f"{len(self.found[True])} and {len(self.found[False])} ({self.told}); allow more tries, or use another "
                "source."
            )
        right, num = self.found[True], self.wanted[True]
        complete = [each for each in right if each.is_complete]
        others = [each for each in right if not each.is_complete]
        num_others = min(len(others), max(num - int(MAX_COMPLETE * num), num - len(complete)))
        picked = _picked(others, num_others, rng) + _picked(complete, num - num_others, rng)
        picked += _picked(self.found[False], self.wanted[False], rng)
        return [picked[int(k)] for k in rng.permutation(len(picked))]

    @property
    def told(self) -> str:
        """The counts in words."""
        return ", ".join(f"{num} {reason}" for reason, num in sorted(self.counts.items()))


def balanced(candidates: Sequence[Candidate], num: int, rng: np.random.Generator) -> list[Candidate]:
    """``num`` candidates, taken from each cell in turn while it lasts; ties are random."""
    turns: Counter[tuple[str, int]] = Counter()
    ranked = list[tuple[int, float, Candidate]]()
    for k in rng.permutation(len(candidates)):
        each = candidates[int(k)]
        ranked.append((turns[each.cell], rng.random(), each))
        turns[each.cell] += 1
    return [each for _, _, each in sorted(ranked, key=lambda item: item[:2])[:num]]


def _picked(candidates: Sequence[Candidate], num: int, rng: np.random.Generator) -> list[Candidate]:
    """``num`` candidates, those that top up only where the others are too few."""
    own = [each for each in candidates if not each.is_top_up]
    spare = [each for each in candidates if each.is_top_up]
    return balanced(own, min(num, len(own)), rng) + balanced(spare, max(0, num - len(own)), rng)


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
    """All that is said."""
    return (transcript.prompt, *(str(e.content) for e in transcript.emissions if not e.stage.is_image))
