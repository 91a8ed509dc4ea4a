"""Evaluate a policy of your own (start, act, close): python examples/own_policy.py out=outputs/hasty"""

import sys

import numpy as np

from strokes.agents.bagel.checkpoint import load
from strokes.agents.bagel.tokenizer import Tokenizer
from strokes.agents.interleaved import TINY, Interleaved
from strokes.agents.load import SHIPPED
from strokes.envs import Stage
from strokes.rl.evaluate import main


class Hasty(Interleaved):
    """Whatever is legal, it stops where it may and has a canvas."""

    def __init__(self):
        super().__init__(load(SHIPPED), Tokenizer.load(SHIPPED), TINY)

    def act(self, sessions, masks):
        stop = np.array([stage is Stage.STOP for stage in Stage], np.int8)
        return super().act(sessions, [stop if mask[Stage.STOP] else mask for mask in masks])


if __name__ == "__main__":
    sys.argv += ["policy=custom", "policy.target=own_policy:Hasty"]
    sys.exit(main())
