"""Instruction-intermediate conflict: is the plan true to the prompt? The paper's second subset.

A model plans one step of a drawing whose earlier steps are right; a critic judges the plan against the prompt; the
sketch follows the plan, right or wrong. To be learnt is the inspection: that a true plan stands and what is still
missing, or what is wrong and which edits put it right, and then the corrected plan and its sketch (arXiv 2604.04746,
section 3.2). "symbolic" is what the paper's Table 6 compares with: the plans are the painter's own, wrong ones made
from the scene graph.

The words are the painter's, so that all of the mini-world speaks one language. A plan of which painter and critic think
differently is left out, and so is one that is not in the language or whose instruction and description disagree: no
sketch follows both. Announced detours are no conflicts: the critic reads the announcement. After a plan that stands
comes the painter's next plan, or the end, and what comes is learnt, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, get_args

from ..agents.brush import things
from ..agents.rollout import Rules
from ..envs.markup import Inspection, parse_inspection
from ..envs.protocols import Policy
from ..envs.scenes.changes import Fault
from ..envs.scenes.graph import Graph
from ..envs.scenes.language import describe_edits, parse_report
from ..envs.stages import Stage
from ..rewards.critics import Judgement
from ..rewards.exact import order_of
from .corrections import moved
from .critique import Critique, Way
from .drafts import Draft
from .quotas import Candidate
from .sample import Subset
from .self_sampling import heated, take_turns
from .table1 import PAPER

NUM = int(PAPER[Subset.CONFLICT]["total"])
"""Samples of the paper."""
TEMPERATURES = (1.0, 1.3, 1.6)
"""Of sampled plans, one after the other while wrong ones are wanting. The paper does not say; 1 is what the model
learnt, and above 1.6 most texts are no plans."""
TRIES = 3
"""Plans tried for each sample wanted, at each temperature. Ours: what errs less than once in ten is topped up."""
SYMBOLIC_TRIES = 20
"""Likewise of symbolic plans, the last resort: some prompts cannot be planned wrong."""

Source = Literal["self-sampled", "symbolic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict(Critique):
    """Makes the subset.

    Example:
        >>> from strokes.sft.conflict import Conflict
        >>> sample = Conflict(num=20, source="symbolic").make(0, 20)[0]
        >>> [entry.stage.name for entry in sample.transcript.emissions if entry.loss][0]
        'INSPECT'
    """

    subset: ClassVar = Subset.CONFLICT
    judged: ClassVar = Stage.PLAN
    offset: ClassVar = 1_000_003
    sources: ClassVar = get_args(Source)

    planner: Policy | None = None
    """Whose plans are sampled, see ``makers.load_sampler``; ``None`` only where the source is symbolic."""
    source: Source = "self-sampled"
    num: int = NUM
    tries: int = TRIES
    """Plans for each sample wanted, at each temperature."""
    temperatures: Sequence[float] = TEMPERATURES

    def __post_init__(self) -> None:
        Critique.__post_init__(self)
        if self.source == "self-sampled" and (self.planner is None or not self.temperatures):
            raise ValueError(
                f"Expected a planner and temperatures to sample from, got {self.planner!r} and {self.temperatures!r}; "
                "name a checkpoint, or set conflict.source=symbolic."
            )

    def _ways(self) -> Iterator[tuple[Way, int]]:
        """The model at each temperature, and then the painter."""
        if self.source == "self-sampled":
            yield from ((partial(self._sampled, temperature), self.tries) for temperature in self.temperatures)
        yield self._symbolic, SYMBOLIC_TRIES

    def _sampled(self, temperature: float, drafts: Sequence[Draft], seed: tuple[int, ...]) -> list[Candidate | str]:
        """Plans of the model."""
        assert self.planner is not None
        policy, transcripts = heated(self.planner, temperature), [draft.transcript for draft in drafts]
        errors = take_turns(policy, transcripts, Stage.PLAN, seed, Rules(size=self.size))
        whole = [draft for draft, error in zip(drafts, errors, strict=True) if not error]
        candidates = self._candidates(whole, "self-sampled", temperature=temperature)
        return ["no plan"] * (len(drafts) - len(whole)) + candidates

    def _symbolic(self, drafts: Sequence[Draft], _: tuple[int, ...]) -> list[Candidate | str]:
        """Plans of the painter, half of them wrong."""
        whole = [draft for draft in drafts if not draft.held]  # what mends a detour is never wrong by rule
        for draft in whole:
            wrong = replace(draft.habits, detour_rate=0.0, plan_error_rate=1.0)
            draft.paint(Stage.PLAN, loss=False, habits=wrong if draft.session.rng.random() < 0.5 else None)
        return ["after a detour"] * (len(drafts) - len(whole)) + self._candidates(whole, "symbolic")

    def _reasons(self, drafts: Sequence[Draft], judgements: Sequence[Judgement]) -> list[str]:
        return [_inspected(draft, judgement) for draft, judgement in zip(drafts, judgements, strict=True)]

    def _kind(self, fault: Fault, graph: Graph) -> str:
        return plan_kind(fault, graph)


def plan_kind(fault: Fault, graph: Graph) -> str:
    """What is wrong with a plan: "color", "count", "object" (another shape, or one too many), "relation", "lost"."""
    if fault.kind != "unasked":
        return {"broken": "relation", "dropped": "lost"}[fault.kind]
    assert fault.seen is not None, fault
    if any(fault.seen.fits(node) for node in graph.nodes):
        return "count"
    return "color" if any(fault.seen.shape == node.shape for node in graph.nodes) else "object"


def _inspected(draft: Draft, judgement: Judgement) -> str:
    """Sketch, inspect and, where it is wrong, correct the plan that is the draft's last word; why that cannot be."""
    if judgement.is_right is None:
        return "not judged"
    order = order_of(str(draft.transcript.emissions[-1].content), draft.before, draft.transcript.size)
    if order is None:
        return "not in the language"
    if order.idle:
        return "changes nothing"
    if not order.sound:
        return "disagrees with itself"
    draft.paint(Stage.SKETCH, loss=False)
    draft.reconsider()
    inspection = parse_inspection(str(draft.paint(Stage.INSPECT, loss=True).content))
    if (inspection.refine is None) is not judgement.is_right:
        return "judged differently"
    if inspection.refine is None:
        draft.go_on()
    elif inspection.comment.startswith("the plan"):
        _shorten(draft, inspection.comment)
        draft.paint(Stage.PLAN, loss=True)
        draft.paint(Stage.SKETCH, loss=True)
    else:
        return "judged differently"
    return "" if draft.is_true(Stage.PLAN) else "not true"


def _shorten(draft: Draft, comment: str) -> None:
    """Correct a plan that only breaks relations by one move."""
    if any(fault.kind != "broken" for fault in parse_report(comment).faults):
        return
    seen, held = things(draft.session.canvas(draft.transcript.canvas)), draft.session.placeholders()
    edit = moved(draft.before, seen, draft.task.graph, held, draft.session.rng)
    if edit is not None:
        draft.transcript.emissions[-1].content = str(Inspection(comment, describe_edits([edit])))
