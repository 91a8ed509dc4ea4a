"""Train with a reward of your own, the share of red in the picture: python examples/own_reward.py out=outputs/red"""

import sys

import numpy as np

from strokes.envs import Score
from strokes.rl.train import main


class Red:
    """How red the last canvas is, in [0, 1]; no verdict where nothing was drawn."""

    names = ("red",)

    def __call__(self, transcripts):
        return [self.score(transcript) for transcript in transcripts]

    def score(self, transcript):
        canvas = transcript.canvas
        if canvas is None:
            return Score(total=None, steps=[{}] * len(transcript.emissions))
        red, green, blue = np.moveaxis(canvas / 255.0, -1, 0)
        value = float(np.mean((red > 0.6) & (green < 0.4) & (blue < 0.4)))
        return Score(total=value, terms={"red": value}, steps=[{}] * len(transcript.emissions))


if __name__ == "__main__":
    sys.argv.append("reward.target=own_reward:Red")
    sys.exit(main())
