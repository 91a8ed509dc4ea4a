"""Trajectory: a transcript, what its policy said of each emission, and the verdict."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..envs.protocols import Cost, Reply, Score
from ..envs.transcript import Entry, Transcript


@dataclass(slots=True, kw_only=True, eq=False)
class Trajectory:
    """One episode as a learner needs it."""

    transcript: Transcript
    seed: tuple[int, ...] = ()
    """Seed of the session: with the place of an emission it decides all its noise."""
    replies: list[Reply | None] = field(default_factory=list)
    """``replies[k]``: tokens, log-probs, allowed ids, temperature, flow path and latent of emission ``k``; ``None``
    where it came from somebody else (words from outside, a transcript that was taken up)."""
    score: Score | None = None
    """The verdict; ``None``: not judged."""
    progress: list[float | None] = field(default_factory=list)
    """``progress[k]``: the outcome of the canvas as it is after emission ``k``, ``None`` where there is no verdict;
    empty unless it was graded throughout."""

    @property
    def cost(self) -> Cost:
        """What all replies cost together."""
        return sum((reply.cost for reply in self.replies if reply is not None), Cost())

    def own(self) -> Iterator[tuple[int, Entry, Reply]]:
        """(k, entry, reply) of the policy's own emissions, in order."""
        for k, (entry, reply) in enumerate(zip(self.transcript.emissions, self.replies, strict=True)):
            if reply is not None:
                yield k, entry, reply
