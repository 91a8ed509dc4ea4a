"""Image-instruction alignment: is the sketch true to the plan? The paper's third subset.

A right plan, and a sketch that follows it or does not. To be learnt is the inspection: that the sketch stands and what
is still missing, or what is wrong and which edits put it right, and then the refined image (arXiv 2604.04746, section
3.2). "self-sampled" sketches are a model's, drawn in few steps and without guidance so that it errs, and labelled by a
critic that looks at them; "corrupted" ones are the painter's, spoiled on purpose; the paper's own, of the public GenRef
data, are read by ``genref``.

Words and refinements are the painter's: what the sketch got right stays where it is. What painter and critic judge
differently, what has more faults than anybody would repair, and what is not right after the refinement is left out. At
last comes the painter's next plan, or the end, and what comes is learnt, too.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..agents.command import check_number
from ..agents.rollout import Rules
from ..envs.markup import parse_inspection
from ..envs.protocols import Policy
from ..envs.scenes.language import parse_report
from ..envs.scenes.render import SIZE
from ..envs.scenes.tasks import Task
from ..envs.stages import Stage
from ..rewards.critics import Critic, Judgement
from ..rewards.exact import ExactCritic
from .chunks import check_drawings, numbers
from .drafts import BATCH, Draft, begin_batch, last_query
from .multi_turn import CHUNK, DETOUR_RATE, planned_rounds
from .quotas import Candidate, Harvest, quota, wrong_by_step
from .sample import Sample, Subset
from .scene_prompts import SPLITS, scene_prompts
from .self_sampling import take_turns
from .table1 import PAPER

NUM, POSITIVES = (int(PAPER[Subset.ALIGNMENT][name]) for name in ("total", "positive"))
"""Samples of the paper, and right ones among them."""
TRIES = 4
"""Sketches tried for each sample wanted. Ours: what errs less than once in six is topped up with spoiled ones."""
TOP_UP_TRIES = 8
"""Likewise of the painter's sketches, the last resort; nearly all of them will do."""
SPOILT = 1 - POSITIVES / NUM
"""Share of the painter's sketches that it spoils."""
MAX_FAULTS = 3
"""Most faults of a sketch. Ours: beyond, a refinement is a new drawing."""
OFFSET = 2_000_003
"""Added to the seed, so that prompts and drawings are not those of the other subsets."""

Source = Literal["self-sampled", "corrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Makes the subset.

    Example:
        >>> from strokes.sft.alignment import Alignment
        >>> sample = Alignment(num=20, source="corrupted").make(0, 20)[0]
        >>> [entry.stage.name for entry in sample.transcript.emissions if entry.loss][0]
        'INSPECT'
    """

    sketcher: Policy | None = None
    """Whose sketches are sampled, see ``makers.load_sampler``; ``None`` only where the source is corrupted."""
    source: Source = "self-sampled"
    critic: Critic = field(default_factory=ExactCritic)
    seed: int = 0
    num: int = NUM
    """Samples of the whole subset, of which chunks are slices."""
    split: str = "train"
    """"train" or "validation"."""
    detour_rate: float = DETOUR_RATE
    """Of the rounds up to the plan, as in multi-turn generation."""
    tries: int = TRIES
    size: int = SIZE
    """Side of the canvas in pixels."""
    chunk_size: int = CHUNK
    """Samples of a full chunk; chunk c begins with sample c times this."""

    def __post_init__(self) -> None:
        if self.source not in ("self-sampled", "corrupted"):
            raise ValueError(f"Expected alignment.source to be self-sampled or corrupted, got {self.source!r}.")
        if self.source == "self-sampled" and self.sketcher is None:
            raise ValueError(
                "Expected a sketcher to sample from, got none; name a checkpoint, or set alignment.source=corrupted."
            )
        check_drawings(self.split, self.num, self.chunk_size, self.detour_rate)
        check_number("alignment.tries", self.tries, 1)

    def make(self, chunk: int, num: int) -> list[Sample]:
        """The first ``num`` samples of a chunk; they depend on the settings, ``chunk`` and ``num`` alone.

        Raises:
            ValueError: There is no such chunk, or too few right or wrong sketches after a bounded number of tries.
            OSError: The critic is out of reach.
        """
        asked = numbers(chunk, num, self.num, self.chunk_size)
        tasks = scene_prompts(self.seed + OFFSET, self.num, self.split, asked.start, asked.stop)
        harvest = Harvest(*quota(Subset.ALIGNMENT, asked.start, len(asked)))
        for number, (is_sampled, tries) in enumerate(self._stages()):
            self._gather(harvest, tasks, (chunk, number), is_sampled, tries * len(asked))
            if not harvest.lacks():
                break
        samples = harvest.samples(Subset.ALIGNMENT, self.split, self.seed, asked.start)
        print(f"alignment chunk {chunk}: {harvest.told}; {wrong_by_step(samples)}", file=sys.stderr, flush=True)
        return samples

    def _stages(self) -> Iterator[tuple[bool, int]]:
        """Whether sketches are a model's, and how many are tried for each sample."""
        if self.source == "self-sampled":
            yield True, self.tries
        yield False, TOP_UP_TRIES

    def _gather(
        self, harvest: Harvest, tasks: Sequence[Task], place: tuple[int, ...], is_sampled: bool, limit: int
    ) -> None:
        """Try sketches, batch by batch, until there are enough candidates or ``limit`` was tried."""
        seeds = (self.seed + OFFSET, SPLITS.index(self.split), *place)

        def batch(first: int) -> list[Candidate | str]:
            drafts = begin_batch(tasks, seeds, first, self.size, self.detour_rate, Stage.SKETCH)
            self._sketch(drafts, (*seeds, first), is_sampled)
            return self._candidates(drafts, is_sampled)

        harvest.gather(batch, range(0, limit, BATCH))

    def _sketch(self, drafts: Sequence[Draft], seed: tuple[int, ...], is_sampled: bool) -> None:
        """Have each draft sketched: by the model, or by the painter, who spoils two in three."""
        if not is_sampled:
            for draft in drafts:
                draft.paint(Stage.SKETCH, loss=False, habits=replace(draft.habits, error_rate=SPOILT))
            return
        assert self.sketcher is not None
        errors = take_turns(
            self.sketcher, [draft.transcript for draft in drafts], Stage.SKETCH, seed, Rules(size=self.size)
        )
        assert not any(errors), errors  # only texts can be illegal

    def _candidates(self, drafts: Sequence[Draft], is_sampled: bool) -> list[Candidate | str]:
        """What is said of each sketch, or why nothing can be."""
        judgements = self.critic.judge([last_query(draft.transcript) for draft in drafts])
        told = [_told(draft, judgement) for draft, judgement in zip(drafts, judgements, strict=True)]
        fixed = [k for k, reason in enumerate(told) if not reason and judgements[k].is_right is False]
        verdicts = self.critic.judge([last_query(drafts[k].transcript) for k in fixed])
        for k, verdict in zip(fixed, verdicts, strict=True):
            told[k] = "" if verdict.is_right else "not put right"
        for k, draft in enumerate(drafts):
            if not told[k]:
                draft.go_on()
                told[k] = "" if draft.is_true(Stage.SKETCH) else "not true"
        return [
            reason or self._candidate(draft, bool(judgement.is_right), is_sampled)
            for draft, judgement, reason in zip(drafts, judgements, told, strict=True)
        ]

    def _candidate(self, draft: Draft, label: bool, is_sampled: bool) -> Candidate:
        (comment,) = [e.content for e in draft.transcript.emissions if e.loss and e.stage is Stage.INSPECT]
        report = parse_report(parse_inspection(str(comment)).comment)
        return Candidate(
            transcript=draft.transcript,
            label=label,
            step=draft.step,
            is_pending=bool(draft.held),
            source="self-sampled" if is_sampled else "corrupted",
            is_top_up=not is_sampled and self.source == "self-sampled",
            kinds=tuple(sorted({fault.kind for fault in report.faults})),
            graph_hash=draft.task.graph.canonical_hash(),
            is_complete=report.complete,
            notes={"planned": planned_rounds(draft.transcript)},
        )


def _told(draft: Draft, judgement: Judgement) -> str:
    """Inspect and, where it is wrong, refine the sketch that the draft ends in; why that cannot be."""
    if judgement.is_right is None:
        return "not judged"
    inspection = parse_inspection(str(draft.paint(Stage.INSPECT, loss=True).content))
    if (inspection.refine is None) is not judgement.is_right:
        return "judged differently"
    if inspection.refine is None:
        return ""
    faults = parse_report(inspection.comment).faults
    if not inspection.comment.startswith("the sketch"):
        return "judged differently"
    if len(faults) > MAX_FAULTS:
        return "too many faults"
    draft.paint(Stage.REFINE, loss=True)
    return ""
