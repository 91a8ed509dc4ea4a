"""Critique: what the makers of conflict and of alignment have in common.

Both begin drafts up to what is to be judged, a PLAN or a SKETCH, have it made by somebody who errs, ask a critic, and
let the painter say what is wrong and put it right. That goes on batch by batch, and from one way of making it to the
next, until there are as many right and wrong samples as the paper has.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypeAlias

from ..agents.command import check_number
from ..envs.markup import parse_inspection
from ..envs.scenes.changes import Fault
from ..envs.scenes.graph import Graph
from ..envs.scenes.language import parse_report
from ..envs.scenes.render import SIZE
from ..envs.scenes.tasks import Task
from ..envs.stages import Stage
from ..rewards.critics import Critic, Judgement
from ..rewards.exact import ExactCritic
from .chunks import CHUNK, check_drawings, numbers
from .drafts import BATCH, Draft, begin_batch, last_query
from .multi_turn import DETOUR_RATE, planned_rounds
from .quotas import Candidate, Harvest, quota, wrong_by_step
from .sample import Sample, Subset
from .scene_prompts import SPLITS, scene_prompts

Way: TypeAlias = Callable[[Sequence[Draft], tuple[int, ...]], list[Candidate | str]]
"""From a batch of drafts and its seed to what becomes of each: a candidate, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Critique(ABC):
    """Makes a subset of right and wrong samples."""

    subset: ClassVar[Subset]
    judged: ClassVar[Stage]
    """PLAN or SKETCH."""
    offset: ClassVar[int]
    """Added to the seed, so that prompts and drawings are not those of the other subsets."""
    sources: ClassVar[tuple[str, ...]]
    """Where what is judged may come from."""

    source: str
    """What is of another one makes up for what is lacking, and says so."""
    critic: Critic = field(default_factory=ExactCritic)
    seed: int = 0
    num: int
    """Samples of the whole subset, of which chunks are slices."""
    split: str = "train"
    """"train" or "validation"."""
    detour_rate: float = DETOUR_RATE
    """Of the rounds before what is judged, as in multi-turn generation."""
    tries: int
    """Drafts for each sample wanted."""
    size: int = SIZE
    """Side of the canvas in pixels."""
    chunk_size: int = CHUNK
    """Samples of a full chunk; chunk c begins with sample c times this."""

    def __post_init__(self) -> None:
        if self.source not in self.sources:
            raise ValueError(f"Expected {self.subset}.source to be {' or '.join(self.sources)}, got {self.source!r}.")
        check_drawings(self.split, self.num, self.chunk_size, self.detour_rate)
        check_number(f"{self.subset}.tries", self.tries, 1)

    def make(self, chunk: int, num: int) -> list[Sample]:
        """The first ``num`` samples of a chunk; they depend on the settings, ``chunk`` and ``num`` alone.

        Raises:
            ValueError: There is no such chunk, or too few right or wrong drafts after a bounded number of tries.
            OSError: The critic is out of reach.
        """
        asked = numbers(chunk, num, self.num, self.chunk_size)
        tasks = scene_prompts(self.seed + self.offset, self.num, self.split, asked.start, asked.stop)
        harvest = Harvest(*quota(self.subset, asked.start, len(asked)))
        for number, (way, tries) in enumerate(self._ways()):
            seeds = (self.seed + self.offset, SPLITS.index(self.split), chunk, number)
            harvest.gather(partial(self._batch, way, tasks, seeds), range(0, tries * len(asked), BATCH))
            if not harvest.lacks():
                break
        samples = harvest.samples(self.subset, self.split, self.seed, asked.start)
        print(f"{self.subset} chunk {chunk}: {harvest.told}; {wrong_by_step(samples)}", file=sys.stderr, flush=True)
        return samples

    @abstractmethod
    def _ways(self) -> Iterator[tuple[Way, int]]:
        """Ways of making what is judged, and how many drafts each is given for a sample wanted."""

    @abstractmethod
    def _reasons(self, drafts: Sequence[Draft], judgements: Sequence[Judgement]) -> list[str]:
        """Draw what follows what was judged; why that cannot be, "" where it can."""

    @abstractmethod
    def _kind(self, fault: Fault, graph: Graph) -> str:
        """What is wrong, for quotas and tables."""

    def _batch(self, way: Way, tasks: Sequence[Task], seeds: tuple[int, ...], first: int) -> list[Candidate | str]:
        """What becomes of a batch of drafts, by the number of its first."""
        drafts = begin_batch(tasks, seeds, first, self.size, self.detour_rate, self.judged)
        return way(drafts, (*seeds, first))

    def _candidates(self, drafts: Sequence[Draft], source: str, **notes: Any) -> list[Candidate | str]:
        """What becomes of drafts that end in what is judged."""
        judgements = self.critic.judge([last_query(draft.transcript) for draft in drafts])
        reasons = self._reasons(drafts, judgements)
        return [
            reason or self._candidate(draft, bool(judgement.is_right), source, notes)
            for draft, judgement, reason in zip(drafts, judgements, reasons, strict=True)
        ]

    def _candidate(self, draft: Draft, label: bool, source: str, notes: dict[str, Any]) -> Candidate:
        (comment,) = [e.content for e in draft.transcript.emissions if e.loss and e.stage is Stage.INSPECT]
        report = parse_report(parse_inspection(str(comment)).comment)
        return Candidate(
            transcript=draft.transcript,
            label=label,
            step=draft.step,
            is_pending=bool(draft.held),
            source=source,
            is_top_up=source != self.source,
            kinds=tuple(sorted({self._kind(fault, draft.task.graph) for fault in report.faults})),
            graph_hash=draft.task.graph.canonical_hash(),
            is_complete=report.complete,
            notes={"planned": planned_rounds(draft.transcript), **notes},
        )
