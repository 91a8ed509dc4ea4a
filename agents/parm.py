"""PARM: drawings that are looked at on their way, and the best of those with potential.

Potential assessment (Z. Guo et al., arXiv 2501.13926; github.com/ZiyuGuo99/Image-Generation-CoT): a candidate is looked
at again and again until the verifier calls it *clear*; there it is asked once whether it has *potential*; of those
that have, the one with the best *outcome* is kept. PARM++ then reflects on it, see ``reflection``.

As released, a candidate without potential is drawn to its end all the same and only loses: nothing but questions is
saved. As described, it is given up: rule "pruned".
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from ..envs.protocols import Cost, Look, Opinion, Policy, Session, Verifier, VerifierQuestion, Watchable
from ..envs.transcript import Ending, Transcript
from .ledger import total
from .reflection import MAX_REFLECTIONS, reflect
from .rollout import Rules
from .search import Found, SearchOfN, SearchSession, asked, put, worth
from .trajectory import Trajectory

Rule = Literal["released", "pruned"]
NEVER_CLEAR, MALFORMED = 1.0, 50.0
"""What stands for the probability of "no", as released, where the question of potential was never put, and where its
answer was neither yes nor no."""


@dataclass(slots=True, kw_only=True)
class Assessment:
    """What a verifier made of one candidate, look by look."""

    is_clear: bool = False
    """Whether it was called clear; it is looked at no more then."""
    has_potential: bool = False
    no_prob: float = NEVER_CLEAR
    """Probability of "no" to the question of potential."""
    is_rejected: bool = False
    """Whether the word was "no"; no answer is no rejection."""

    def hear_clarity(self, opinion: Opinion) -> None:
        """Only the word counts, and only "no" is not clear."""
        self.is_clear = opinion.said is not False

    def hear_potential(self, opinion: Opinion) -> None:
        """Only the word decides; its probability is for choosing among candidates without potential."""
        self.has_potential, self.is_rejected = opinion.said is True, opinion.said is False
        answered = opinion.said is not None and opinion.p_no is not None
        self.no_prob = float(opinion.p_no or 0.0) if answered else MALFORMED


def choose(assessments: Mapping[int, Assessment], outcomes: Mapping[int, float]) -> int:
    """The candidate that is kept, of equal ones the first.

    Args:
        assessments: Of the candidates that can be chosen, by number.
        outcomes: What those with potential are worth in the end. The best of them wins, be it worth 0; where there is
            none, the lowest probability of "no" wins.
    """
    if outcomes:
        return max(sorted(outcomes), key=lambda k: outcomes[k])
    return min(sorted(assessments), key=lambda k: assessments[k].no_prob)


@dataclass(slots=True, eq=False)
class _Candidate:
    """One of a canvas's drawings."""

    transcript: Transcript
    group: int
    """Its canvas."""
    assessment: Assessment = field(default_factory=Assessment)
    is_stopped: bool = False
    cost: Cost = field(default_factory=Cost)
    """Of the questions about it."""


class _Assessor:
    """Looks at the candidates of all canvases on their way: a ``Watcher`` of images, and of drawings."""

    def __init__(
        self,
        candidates: Sequence[_Candidate],
        verifier: Verifier,
        rule: Rule,
        is_sketch_seen: bool,
        flow_steps: Collection[int],
    ) -> None:
        self.candidates, self.verifier, self.rule = candidates, verifier, rule
        self.is_sketch_seen, self.flow_steps = is_sketch_seen, flow_steps
        self._by_transcript = {id(candidate.transcript): candidate for candidate in candidates}

    def wants(self, session: Session, step: int) -> bool:
        return step in self.flow_steps and not self._of(session.transcript).assessment.is_clear

    def look(self, drafts: Sequence[tuple[Session, np.ndarray]]) -> list[bool]:
        seen = [self._of(session.transcript) for session, _ in drafts]
        self._assess(seen, [image for _, image in drafts], is_drawing=True)
        return [not candidate.is_stopped for candidate in seen]

    def advanced(self, trajectories: Sequence[Trajectory]) -> None:
        """After an emission of each: look at the new images, and end what is given up."""
        moved = [self._of(trajectory.transcript) for trajectory in trajectories]
        if self.is_sketch_seen:
            new = [c for c in moved if not c.assessment.is_clear and _has_new_image(c.transcript)]
            self._assess(new, [c.transcript.images[-1] for c in new])
        for candidate in moved:
            if candidate.is_stopped:
                candidate.transcript.ended = Ending.TRUNCATED

    def _of(self, transcript: Transcript) -> _Candidate:
        return self._by_transcript[id(transcript)]

    def _assess(
        self, candidates: Sequence[_Candidate], images: Sequence[np.ndarray], *, is_drawing: bool = False
    ) -> None:
        """Ask what there is to be asked; while an image is being drawn, its own time includes that of the questions."""
        drawn = [candidate.transcript for candidate in candidates]
        looks = [Look(each.prompt, image, each.meta) for each, image in zip(drawn, images, strict=True)]
        for candidate, opinion in self._put("clarity", candidates, looks, is_drawing):
            candidate.assessment.hear_clarity(opinion)
        clear = [k for k, candidate in enumerate(candidates) if candidate.assessment.is_clear]
        far = [candidates[k] for k in clear], [looks[k] for k in clear]
        for candidate, opinion in self._put("potential", *far, is_drawing):
            candidate.assessment.hear_potential(opinion)
        if self.rule == "pruned":
            for group in {candidate.group for candidate in candidates}:
                self._prune([c for c in self.candidates if c.group == group and not c.is_stopped])

    def _put(
        self, question: VerifierQuestion, candidates: Sequence[_Candidate], looks: Sequence[Look], is_drawing: bool
    ) -> list[tuple[_Candidate, Opinion]]:
        pairs = list(zip(candidates, put(self.verifier, question, looks), strict=True))
        for candidate, opinion in pairs:
            candidate.cost += replace(opinion.cost, seconds=0.0) if is_drawing else opinion.cost
        return pairs

    def _prune(self, going: Sequence[_Candidate]) -> None:
        """Give up the rejected, but for the least rejected where nobody else is left: there has to be a picture."""
        rejected = [candidate for candidate in going if candidate.assessment.is_rejected]
        spared = min(rejected, key=lambda c: c.assessment.no_prob) if len(rejected) == len(going) else None
        for candidate in rejected:
            candidate.is_stopped = candidate is not spared


class Parm(SearchOfN):
    """The search.

    Candidates are looked at after every sketch and refinement, at chosen sampling steps of each image (what the state
    is heading for, see ``bagel.sample``), or both. All candidates of a canvas advance together. With rule "pruned" one
    whose potential is called "no" is given up at once; if all are, the one with the lowest probability of "no" among
    those rejected last is drawn to its end, for those given up before are gone. A candidate about whose potential
    there is no answer has none and is drawn on.
    """

    def __init__(
        self,
        policy: Policy,
        n: int,
        verifier: Verifier,
        *,
        rule: Rule = "released",
        is_sketch_seen: bool = True,
        flow_steps: Collection[int] = (),
        reflections: int = 0,
        rules: Rules | None = None,
    ) -> None:
        """Args:

        policy: Draws; a ``Watchable`` one where there are ``flow_steps``.
        n: Candidates per canvas; 20 as released.
        verifier: Answers the three questions.
        rule: Whether candidates without potential are drawn to their end, "released", or given up, "pruned".
        is_sketch_seen: Whether finished sketches and refinements are looked at.
        flow_steps: Sampling steps, from 1, after which unfinished images are looked at; as released, all.
        reflections: Most times that a chosen drawing is corrected by the verifier's words; 3 in PARM++.
        rules: See ``Search``.
        """
        super().__init__(policy, n, rules)
        if rule not in get_args(Rule):
            raise ValueError(f"Expected a rule among {', '.join(get_args(Rule))}, got {rule!r}.")
        if not is_sketch_seen and not flow_steps:
            raise ValueError("Expected something to look at, got neither sketches nor sampling steps.")
        if flow_steps and not isinstance(policy, Watchable):
            raise ValueError(f"Expected a policy that can be watched while it draws, got {type(policy).__name__}.")
        if not 0 <= reflections <= MAX_REFLECTIONS:
            raise ValueError(f"Expected reflections in [0, {MAX_REFLECTIONS}], got {reflections!r}.")
        self.verifier, self.rule, self.reflections = verifier, rule, reflections
        self.is_sketch_seen, self.flow_steps = is_sketch_seen, frozenset(flow_steps)

    def search(self, sessions: Sequence[SearchSession], rules: Rules) -> list[Found]:
        """Draw, look, choose and reflect."""
        copies = self.copies(sessions)
        candidates = [_Candidate(transcript, k // self.n) for k, transcript in enumerate(copies)]
        groups = self._drawn(sessions, candidates, rules)
        good = [c for c in candidates if c.assessment.has_potential and not c.is_stopped]
        outcomes = dict(zip(map(id, good), asked(self.verifier, "outcome", [c.transcript for c in good]), strict=True))
        found, verdicts = list[Found](), list[Opinion | None]()
        for k, group in enumerate(groups):
            among = candidates[k * self.n : (k + 1) * self.n]
            judged = {i: outcomes[id(c)] for i, c in enumerate(among) if id(c) in outcomes}
            going = {i: c.assessment for i, c in enumerate(among) if not c.is_stopped}
            best = choose(going, {i: worth(opinion) for i, opinion in judged.items()})
            questions = [*(c.cost for c in among), *(opinion.cost for opinion in judged.values())]
            found.append(Found(group[best], total([*(each.cost for each in group), *questions])))
            verdicts.append(judged.get(best))
        if not self.reflections:
            return found
        return reflect(self.policy, self.verifier, sessions, found, verdicts, rules, self.reflections)

    def _drawn(
        self, sessions: Sequence[SearchSession], candidates: Sequence[_Candidate], rules: Rules
    ) -> list[list[Trajectory]]:
        """The candidates drawn, those that are given up as far as they came."""
        assessor = _Assessor(candidates, self.verifier, self.rule, self.is_sketch_seen, self.flow_steps)
        transcripts = [candidate.transcript for candidate in candidates]
        if not self.flow_steps:
            return self.draw(sessions, transcripts, rules, assessor.advanced)
        assert isinstance(self.policy, Watchable)
        self.policy.watcher = assessor
        try:
            return self.draw(sessions, transcripts, rules, assessor.advanced)
        finally:
            self.policy.watcher = None


def _has_new_image(transcript: Transcript) -> bool:
    last = transcript.emissions[-1]
    return last.stage.is_image and not last.error
