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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

from ..agents.rollout import Rules
from ..envs.markup import parse_inspection
from ..envs.protocols import Policy
from ..envs.scenes.changes import Fault
from ..envs.scenes.graph import Graph
from ..envs.scenes.language import parse_report
from ..envs.stages import Stage
from ..rewards.critics import Judgement
from .critique import Critique, Way
from .drafts import Draft, last_query
from .quotas import Candidate
from .sample import Subset
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

Source = Literal["self-sampled", "corrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment(Critique):
    """Makes the subset.

    Example:
        >>> from strokes.sft.alignment import Alignment
        >>> sample = Alignment(num=20, source="corrupted").make(0, 20)[0]
        >>> [entry.stage.name for entry in sample.transcript.emissions if entry.loss][0]
        'INSPECT'
    """

    subset: ClassVar = Subset.ALIGNMENT
    judged: ClassVar = Stage.SKETCH
    offset: ClassVar = 2_000_003
    sources: ClassVar = get_args(Source)

    sketcher: Policy | None = None
    """Whose sketches are sampled, see ``makers.load_sampler``; ``None`` only where the source is corrupted."""
    source: Source = "self-sampled"
    num: int = NUM
    tries: int = TRIES
    """Sketches for each sample wanted."""

    def __post_init__(self) -> None:
        Critique.__post_init__(self)
        if self.source == "self-sampled" and self.sketcher is None:
            raise ValueError(
                "Expected a sketcher to sample from, got none; name a checkpoint, or set alignment.source=corrupted."
            )

    def _ways(self) -> Iterator[tuple[Way, int]]:
        """The model, and then the painter."""
        if self.source == "self-sampled":
            yield self._sampled, self.tries
        yield self._corrupted, TOP_UP_TRIES

    def _sampled(self, drafts: Sequence[Draft], seed: tuple[int, ...]) -> list[Candidate | str]:
        """Sketches of the model."""
        assert self.sketcher is not None
        transcripts = [draft.transcript for draft in drafts]
        errors = take_turns(self.sketcher, transcripts, Stage.SKETCH, seed, Rules(size=self.size))
        assert not any(errors), errors  # only texts can be illegal
        return self._candidates(drafts, "self-sampled")

    def _corrupted(self, drafts: Sequence[Draft], _: tuple[int, ...]) -> list[Candidate | str]:
        """Sketches of the painter, who spoils two in three."""
        for draft in drafts:
            draft.paint(Stage.SKETCH, loss=False, habits=replace(draft.habits, error_rate=SPOILT))
        return self._candidates(drafts, "corrupted")

    def _reasons(self, drafts: Sequence[Draft], judgements: Sequence[Judgement]) -> list[str]:
        reasons = [_inspected(draft, judgement) for draft, judgement in zip(drafts, judgements, strict=True)]
        fixed = [k for k, reason in enumerate(reasons) if not reason and judgements[k].is_right is False]
        verdicts = self.critic.judge([last_query(drafts[k].transcript) for k in fixed])
        for k, verdict in zip(fixed, verdicts, strict=True):
            reasons[k] = "" if verdict.is_right else "not put right"
        for k, draft in enumerate(drafts):
            if not reasons[k]:
                draft.go_on()
                reasons[k] = "" if draft.is_true(Stage.SKETCH) else "not true"
        return reasons

    def _kind(self, fault: Fault, graph: Graph) -> str:
        return fault.kind


def _inspected(draft: Draft, judgement: Judgement) -> str:
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
