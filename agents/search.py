"""Search: more drawings than one, and the best of them.

``Search`` is what all searches share: a policy that draws each canvas ahead, to the end, in as many ways as it likes,
and then emits what it chose piece by piece. ``BestOfN`` is the plainest; ``parm`` and ``beam`` have the others.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import NamedTuple, Self

import numpy as np

from ..envs.protocols import Cost, Look, Opinion, Policy, Reply, Score, Session, Verifier, VerifierQuestion
from ..envs.transcript import Transcript
from .ledger import total
from .rollout import Rules, ScoreFn, play
from .trajectory import Trajectory


@dataclass(slots=True, eq=False)
class SearchSession:
    """One canvas, and the drawing chosen for it."""

    transcript: Transcript
    size: int
    seed: tuple[int, ...]
    best: Trajectory | None = None
    """What is being emitted; ``None``: nothing chosen yet, or the transcript went another way."""

    def copy(self) -> Transcript:
        """An open transcript to draw on, as this one stands."""
        return self.transcript.cut(len(self.transcript.emissions))


class Found(NamedTuple):
    """What a search came to on one canvas."""

    best: Trajectory
    """The drawing chosen, ended."""
    bill: Cost
    """What all drawings and all verdicts cost, those that were given up too."""


class Search(ABC):
    """A policy that draws ahead.

    The first reply of a chosen drawing costs what the whole search cost, the others nothing. Where the transcript goes
    another way (somebody else's emission), it searches anew from what there is.
    """

    def __init__(self, policy: Policy, rules: Rules | None = None) -> None:
        """Args:

        policy: Draws.
        rules: Budget and grammar of the drawings; must be those under which this policy is used.
        """
        self.policy, self.rules = policy, rules or Rules()

    @abstractmethod
    def search(self, sessions: Sequence[SearchSession], rules: Rules) -> list[Found]:
        """Draw on copies of the sessions' transcripts, all canvases together, and choose for each; see ``Found``."""

    def start(self, transcript: Transcript, size: int, seed: Sequence[int]) -> SearchSession:
        """A session on an empty or re-opened transcript."""
        return SearchSession(transcript, size, tuple(seed))

    def close(self, sessions: Sequence[Session]) -> None:  # noqa: B027 - no search has to do more
        """Nothing is held: the inner sessions end with their drawings."""

    def act(self, sessions: Sequence[Session], masks: Sequence[np.ndarray]) -> list[Reply]:
        """One reply per session; all drawings of all canvases are made together."""
        own = [_own(session) for session in sessions]
        lost = [session for session in own if not _follows(session)]
        for size in sorted({session.size for session in lost}):
            alike = [session for session in lost if session.size == size]
            for session, found in zip(alike, self.search(alike, replace(self.rules, size=size)), strict=True):
                session.best = self._billed(session, found)
        return [_next(session) for session in own]

    def _billed(self, session: SearchSession, found: Found) -> Trajectory:
        """The chosen drawing with the bill on the first reply that is still to be given."""
        first = len(session.transcript.emissions)
        new = [reply for reply in found.best.replies[first:] if reply is not None]
        if not new:
            raise ValueError(f"Expected rules.budget above {session.transcript.spent}, got {self.rules.budget}.")
        found.best.replies[first:] = [
            replace(new[0], cost=found.bill),
            *(replace(reply, cost=Cost()) for reply in new[1:]),
        ]
        return found.best


class SearchOfN(Search):
    """A search that begins ``n`` drawings on each canvas."""

    def __init__(self, policy: Policy, n: int, rules: Rules | None = None) -> None:
        """Args:

        policy: Draws.
        n: Drawings per canvas.
        rules: See ``Search``.
        """
        super().__init__(policy, rules)
        if n < 1:
            raise ValueError(f"Expected n of at least 1, got {n}.")
        self.n = n

    def sized(self, n: int) -> Self:
        """The same search with another number of drawings."""
        other = copy.copy(self)
        other.n = n
        return other

    def draw(
        self,
        sessions: Sequence[SearchSession],
        transcripts: Sequence[Transcript],
        rules: Rules,
        on_advance: Callable[[Sequence[Trajectory]], None] | None = None,
    ) -> list[list[Trajectory]]:
        """Draw on ``n`` transcripts for each session, in order; member k has the same noise in every search."""
        seeds = [(*session.seed, member) for session in sessions for member in range(self.n)]
        drawn = play(self.policy, transcripts, seeds, rules, on_advance=on_advance)
        return [drawn[k * self.n : (k + 1) * self.n] for k in range(len(sessions))]

    def copies(self, sessions: Sequence[SearchSession]) -> list[Transcript]:
        """``n`` open transcripts for each session, in order."""
        return [session.copy() for session in sessions for _ in range(self.n)]


class BestOfN(SearchOfN):
    """The search that draws each canvas ``n`` times to the end and keeps the best.

    With ``Outcome`` as its judge it is the search that PARM's authors call ORM (arXiv 2501.13926).
    """

    def __init__(self, policy: Policy, n: int, score_fn: ScoreFn, rules: Rules | None = None) -> None:
        """Args:

        policy: Draws.
        n: Drawings per canvas.
        score_fn: Judges finished transcripts; no verdict counts less than any.
        rules: See ``Search``.
        """
        super().__init__(policy, n, rules)
        self.score_fn = score_fn

    def search(self, sessions: Sequence[SearchSession], rules: Rules) -> list[Found]:
        """Draw ``n`` times for each canvas and choose."""
        copies = self.copies(sessions)
        groups = self.draw(sessions, copies, rules)
        begun = perf_counter()
        scores = iter(self.score_fn(copies))
        seconds = (perf_counter() - begun) / len(copies)
        found = []
        for group in groups:
            for trajectory in group:
                trajectory.score = next(scores)
            bill = total(cost for each in group for cost in (each.cost, _asking(each, seconds)))
            found.append(Found(max(group, key=_value), bill))  # of equal ones the first
        return found


class Outcome:
    """A verifier as the judge of finished drawings: the probability that the picture is what was asked for.

    As in PARM's released search an answer that is neither yes nor no is worth 0, and no more than that is said of the
    word: a "no" with a high probability of "yes" counts for that probability. Without a picture there is no verdict.
    """

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier

    def __call__(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """One score for each transcript, in order."""
        drawn = [k for k, transcript in enumerate(transcripts) if transcript.canvas is not None]
        opinions = dict(zip(drawn, asked(self.verifier, "outcome", [transcripts[k] for k in drawn]), strict=True))
        return [
            Score(total=worth(opinions[k]), cost=opinions[k].cost) if k in opinions else Score(total=None)
            for k in range(len(transcripts))
        ]


def asked(verifier: Verifier, question: VerifierQuestion, transcripts: Sequence[Transcript]) -> list[Opinion]:
    """What a verifier says of the canvases of transcripts, see ``put``."""
    looks = []
    for transcript in transcripts:
        assert transcript.canvas is not None
        looks.append(Look(transcript.prompt, transcript.canvas, transcript.meta))
    return put(verifier, question, looks)


def put(verifier: Verifier, question: VerifierQuestion, looks: Sequence[Look]) -> list[Opinion]:
    """Put a question about images; every one of them is on the bill, and the time it took.

    Raises:
        ValueError: A verifier that gives another number of opinions than there are images.
    """
    begun = perf_counter()
    opinions = verifier.ask(question, looks) if looks else []
    if len(opinions) != len(looks):
        raise ValueError(f"Expected an opinion on each of {len(looks)} images, got {len(opinions)}.")
    seconds = (perf_counter() - begun) / max(1, len(looks))
    return [replace(opinion, cost=replace(opinion.cost + Cost(questions=1), seconds=seconds)) for opinion in opinions]


def worth(opinion: Opinion) -> float:
    """The probability of "yes"; 0 where the word was neither yes nor no."""
    return 0.0 if opinion.said is None or opinion.p_yes is None else opinion.p_yes


def _asking(trajectory: Trajectory, seconds: float) -> Cost:
    """What a verdict on a finished drawing cost: one question about its picture, whoever was asked."""
    cost = trajectory.score.cost if trajectory.score else Cost()
    return replace(cost, questions=int(trajectory.transcript.canvas is not None), seconds=seconds)


def _value(trajectory: Trajectory) -> float:
    score = trajectory.score.total if trajectory.score else None
    return -math.inf if score is None else score


def _follows(session: SearchSession) -> bool:
    """Whether the transcript is a beginning of the chosen drawing."""
    if session.best is None:
        return False
    ours, theirs = session.transcript.emissions, session.best.transcript.emissions
    same = (a.stage is b.stage and np.array_equal(a.content, b.content) for a, b in zip(ours, theirs, strict=False))
    return len(ours) < len(theirs) and all(same)


def _next(session: SearchSession) -> Reply:
    assert session.best is not None
    reply = session.best.replies[len(session.transcript.emissions)]
    assert reply is not None
    return reply


def _own(session: Session) -> SearchSession:
    if not isinstance(session, SearchSession):
        raise ValueError(f"Expected a session of this policy's start(), got {session!r}.")
    return session
