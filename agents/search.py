"""Search: more drawings than one, and the best of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..envs.protocols import Cost, Policy, Reply, Session
from ..envs.transcript import Transcript
from .ledger import total
from .rollout import Rules, ScoreFn, play
from .trajectory import Trajectory


@dataclass(slots=True, eq=False)
class BestSession:
    """One canvas, and the drawing chosen for it."""

    transcript: Transcript
    size: int
    seed: tuple[int, ...]
    best: Trajectory | None = None
    """What is being emitted; ``None``: nothing chosen yet, or the transcript went another way."""


class BestOfN:
    """A policy that draws each canvas ``n`` times to the end, keeps the best and emits it piece by piece.

    The first reply of a chosen drawing costs what all ``n`` and their verdicts cost, the others nothing. Where the
    transcript goes another way (somebody else's emission), it draws ``n`` continuations of what there is.
    """

    def __init__(self, policy: Policy, n: int, score_fn: ScoreFn, rules: Rules | None = None) -> None:
        """Args:

        policy: Draws.
        n: Drawings per canvas.
        score_fn: Judges finished transcripts; no verdict counts less than any.
        rules: Budget and grammar of the drawings; must be those under which this policy is used.
        """
        if n < 1:
            raise ValueError(f"Expected n of at least 1, got {n}.")
        self.policy, self.n, self.score_fn, self.rules = policy, n, score_fn, rules or Rules()

    def start(self, transcript: Transcript, size: int, seed: Sequence[int]) -> BestSession:
        """A session on an empty or re-opened transcript."""
        return BestSession(transcript, size, tuple(seed))

    def close(self, sessions: Sequence[Session]) -> None:
        """Nothing is held: the inner sessions end with their drawings."""

    def act(self, sessions: Sequence[Session], masks: Sequence[np.ndarray]) -> list[Reply]:
        """One reply per session; all drawings of all canvases are made together."""
        own = [_own(session) for session in sessions]
        lost = [session for session in own if not _follows(session)]
        for size in sorted({session.size for session in lost}):
            self._search([session for session in lost if session.size == size], size)
        return [_next(session) for session in own]

    def _search(self, sessions: Sequence[BestSession], size: int) -> None:
        """Draw ``n`` times for each canvas and choose."""
        copies = [s.transcript.cut(len(s.transcript.emissions)) for s in sessions for _ in range(self.n)]
        seeds = [(*session.seed, member) for session in sessions for member in range(self.n)]
        drawn = play(self.policy, copies, seeds, replace(self.rules, size=size))
        for trajectory, score in zip(drawn, self.score_fn(copies), strict=True):
            trajectory.score = score
        for k, session in enumerate(sessions):
            group = drawn[k * self.n : (k + 1) * self.n]
            session.best = best = max(group, key=_value)  # of equal ones the first
            first = len(session.transcript.emissions)
            new = [reply for reply in best.replies[first:] if reply is not None]
            if not new:
                raise ValueError(f"Expected rules.budget above {session.transcript.spent}, got {self.rules.budget}.")
            bill = total(cost for each in group for cost in (each.cost, each.score.cost if each.score else Cost()))
            best.replies[first:] = [replace(new[0], cost=bill), *(replace(reply, cost=Cost()) for reply in new[1:])]


def _value(trajectory: Trajectory) -> float:
    score = trajectory.score.total if trajectory.score else None
    return -math.inf if score is None else score


def _follows(session: BestSession) -> bool:
    """Whether the transcript is a beginning of the chosen drawing."""
    if session.best is None:
        return False
    ours, theirs = session.transcript.emissions, session.best.transcript.emissions
    same = (a.stage is b.stage and np.array_equal(a.content, b.content) for a, b in zip(ours, theirs, strict=False))
    return len(ours) < len(theirs) and all(same)


def _next(session: BestSession) -> Reply:
    assert session.best is not None
    reply = session.best.replies[len(session.transcript.emissions)]
    assert reply is not None
    return reply


def _own(session: Session) -> BestSession:
    if not isinstance(session, BestSession):
        raise ValueError(f"Expected a session of this policy's start(), got {session!r}.")
    return session
