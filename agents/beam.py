"""Beam: a search over the stages of a drawing.

Step-wise search with a verifier of unfinished work (beam search as in C. Snell et al., arXiv 2408.03314; PARM's authors
call the step-wise choice PRM). A stage of the search is what leads to the next accepted image. Every beam is continued
in several ways, each continuation is worth the probability that it still can become what the prompt asks for, a
finished one the probability that it is, and the best are kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..envs.protocols import Cost, Policy, Verifier
from ..envs.transcript import Ending, Transcript
from .ledger import total
from .rollout import Rules, play
from .search import Found, Search, SearchSession, asked, worth
from .trajectory import Trajectory


@dataclass(slots=True, eq=False)
class _Beam:
    """A drawing on its way."""

    drawing: Trajectory
    is_finished: bool
    value: float = -math.inf
    """What the verifier gives for it; nothing for a drawing without a picture."""


@dataclass(slots=True, eq=False)
class _Canvas:
    """Where the search stands on one canvas."""

    session: SearchSession
    beams: list[_Beam]
    """The best so far; of equal ones the first come first."""
    bill: Cost = field(default_factory=Cost)

    @property
    def open(self) -> list[_Beam]:
        """Beams that are not finished."""
        return [beam for beam in self.beams if not beam.is_finished]


class Beam(Search):
    """The search.

    It begins with ``width * branch`` drawings up to their first image and keeps ``width`` of them. Then each is
    continued ``branch`` times up to its next image, or its end; finished drawings stay among the others until better
    ones push them out. It is over when all that are kept are finished, and gives the best. An answer that is neither
    yes nor no is worth 0, and of equal values the first is kept.
    """

    def __init__(
        self, policy: Policy, verifier: Verifier, *, width: int = 2, branch: int = 2, rules: Rules | None = None
    ) -> None:
        """Args:

        policy: Draws.
        verifier: Is asked about potential and outcome.
        width: Drawings kept; with ``branch`` as many begun as best-of-N's default.
        branch: Continuations of each.
        rules: See ``Search``.
        """
        super().__init__(policy, rules)
        if width < 1 or branch < 1:
            raise ValueError(f"Expected width and branch of at least 1, got {width} and {branch}.")
        self.verifier, self.width, self.branch = verifier, width, branch

    def search(self, sessions: Sequence[SearchSession], rules: Rules) -> list[Found]:
        """Continue, ask and keep, until everything kept is finished."""
        canvases = [_Canvas(session, [_root(session)] * self.width) for session in sessions]
        stage = 0
        while any(canvas.open for canvas in canvases):
            new = self._continued(canvases, stage, rules)
            self._ask(new)
            for canvas in canvases:
                own = [beam for owner, beam in new if owner is canvas]
                kept = [beam for beam in canvas.beams if beam.is_finished]
                canvas.beams = sorted([*kept, *own], key=lambda beam: -beam.value)[: self.width]
            stage += 1
        return [Found(canvas.beams[0].drawing, canvas.bill) for canvas in canvases]

    def _continued(self, canvases: Sequence[_Canvas], stage: int, rules: Rules) -> list[tuple[_Canvas, _Beam]]:
        """Every open beam up to its next image, ``branch`` times; what it costs is billed."""
        parents = [(canvas, beam, k) for canvas in canvases for k, beam in enumerate(canvas.open)]
        children = [(canvas, beam, k * self.branch + j) for canvas, beam, k in parents for j in range(self.branch)]
        copies = [beam.drawing.transcript.cut(len(beam.drawing.transcript.emissions)) for _, beam, _ in children]
        seeds = [(*canvas.session.seed, stage, number) for canvas, _, number in children]
        result = []
        for (canvas, parent, _), drawn in zip(
            children, play(self.policy, copies, seeds, rules, on_advance=_pause), strict=True
        ):
            canvas.bill += drawn.cost
            drawn.replies[: len(parent.drawing.replies)] = parent.drawing.replies
            result.append((canvas, _Beam(drawn, drawn.transcript.ended is not Ending.TRUNCATED)))
        return result

    def _ask(self, beams: Sequence[tuple[_Canvas, _Beam]]) -> None:
        """What new beams are worth."""
        seen = [(canvas, beam) for canvas, beam in beams if beam.drawing.transcript.canvas is not None]
        going = [pair for pair in seen if not pair[1].is_finished]
        ended = [pair for pair in seen if pair[1].is_finished]
        opinions = asked(self.verifier, "potential", [beam.drawing.transcript for _, beam in going])
        opinions += asked(self.verifier, "outcome", [beam.drawing.transcript for _, beam in ended])
        for (canvas, beam), opinion in zip([*going, *ended], opinions, strict=True):
            beam.value = worth(opinion)
            canvas.bill = total([canvas.bill, opinion.cost])


def _root(session: SearchSession) -> _Beam:
    """The drawing as the search finds it."""
    transcript = session.copy()
    return _Beam(
        Trajectory(transcript=transcript, seed=session.seed, replies=[None] * len(transcript.emissions)), False
    )


def _pause(trajectories: Sequence[Trajectory]) -> None:
    """End drawings for now at an accepted image."""
    for trajectory in trajectories:
        transcript: Transcript = trajectory.transcript
        last = transcript.emissions[-1]
        if last.stage.is_image and not last.error and transcript.ended is None:
            transcript.ended = Ending.TRUNCATED
