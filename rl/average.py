"""The average that draws: DiffusionNFT's "old" policy (arXiv 2509.16117).

The gen expert draws with a slow average of what it learns: before generation n is drawn,

    old <- d(n) old + (1 - d(n)) learnt,        d(n) = min(growth · max(0, n - flat), limit)

factor by factor of its adapters, as the paper averages them. The und expert, which the paper has not, writes with what
it has learnt: averaged words would leave the GRPO that teaches them off-policy. Looks at the held-out set, and the
adapter that a run ends with, are the learner's own.
"""

from .learning import is_gen
from .sync import Weights, blended

DECAYS = {0: (0, 0.0, 0.0), 1: (0, 0.001, 0.5), 2: (75, 0.0075, 0.999)}
"""(flat, growth, limit) by the numbers that the paper's code gives them; 0 averages nothing. A step is a generation."""


def decay(schedule: int, generation: int) -> float:
    """Share that the old weights keep before a generation is drawn."""
    flat, growth, limit = DECAYS[schedule]
    return min(max(0, generation - flat) * growth, limit)


class Average:
    """The weights that draw."""

    def __init__(self, schedule: int) -> None:
        """Args:

        schedule: One of ``DECAYS``.
        """
        self.schedule = schedule
        self.weights: Weights | None = None
        """Of the last generation."""

    def __call__(self, learnt: Weights) -> Weights:
        """What draws the generation that these weights were collected for; asked again for it, the same."""
        if self.weights is None:
            self.weights = learnt
        elif self.weights.version != learnt.version:
            self.weights = blended(self.weights, learnt, decay(self.schedule, learnt.version), is_gen)
        return self.weights
