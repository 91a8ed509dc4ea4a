"""Train with a credit rule of your own: python examples/own_credit_rule.py out=outputs/last

Here only the last image, and the words since the one before it, answer for the outcome.
"""

import sys

from strokes.rl.advantage import Signal
from strokes.rl.train import main


def last_image(trajectory):
    """One signal for each emission of the last round, all compared with each other."""
    own = list(trajectory.own())
    images = [k for k, entry, _ in own if entry.stage.is_image]
    if not images or trajectory.score is None:
        return []
    begin = images[-2] if len(images) > 1 else -1
    return [Signal(k, "last", trajectory.score.total) for k, _, _ in own if begin < k <= images[-1]]


if __name__ == "__main__":
    sys.argv += ["credit.name=custom", "credit.target=own_credit_rule:last_image"]
    sys.exit(main())
