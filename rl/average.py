"""The average that draws: DiffusionNFT's "old" policy (arXiv 2509.16117).

The gen expert draws with a slow average of what it learns. Before a generation is drawn, n optimizer steps into a run,

    old <- d(n) old + (1 - d(n)) learnt,        d(n) = min(growth · max(0, n - flat), limit)

factor by factor of its adapters, as the paper averages them. The und expert, which the paper has not, writes with what
it has learnt. Words before the first image are thus drawn by the very weights that begin to learn from them. Later
words have read images of the average and, as they attend to them through the gen expert's keys and values, are drawn
by other weights: the ratio of GRPO, taken from the weights that drew, corrects for it and is clipped as ever. On
bagel-nano it began up to 0.0073 nats a token from 1, with weights 2 % apart. Looks at the held-out set, and the adapter
that a run ends with, are the learner's own.
"""

from .learning import is_gen
from .sync import Weights, blended

DECAYS = {0: (0, 0.0, 0.0), 1: (0, 0.001, 0.5), 2: (75, 0.0075, 0.999)}
"""(flat, growth, limit) by the numbers that the released code gives them. 0 averages nothing; 2 is that of its sd3_ocr,
with b = 0.1 and two optimizer steps an epoch. A step is the optimizer's, and the average is taken once a generation."""


def decay(schedule: int, step: int) -> float:
    """Share that the old weights keep where they are averaged after so many optimizer steps."""
    flat, growth, limit = DECAYS[schedule]
    return min(max(0, step - flat) * growth, limit)


class Average:
    """The weights that draw."""

    def __init__(self, schedule: int, *, steps: int) -> None:
        """Args:

        schedule: One of ``DECAYS``.
        steps: Optimizer steps that learn from one generation.
        """
        self.schedule, self.steps = schedule, steps
        self.weights: Weights | None = None
        """Of the last generation."""

    def __call__(self, learnt: Weights) -> Weights:
        """What draws the generation that these weights were collected for; asked again for it, the same."""
        if self.weights is None:
            self.weights = learnt
        elif self.weights.version != learnt.version:
            share = decay(self.schedule, learnt.version * self.steps)
            self.weights = blended(self.weights, learnt, share, is_gen)
        return self.weights
