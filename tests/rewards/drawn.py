"""Small drawings by hand, and a judge that answers from a list."""

import numpy as np

from strokes.envs.scenes.render import Object, Scene, render
from strokes.envs.stages import Emission, Stage
from strokes.envs.transcript import Ending, Transcript
from strokes.rewards.question import Verdict

PROMPT = "a red circle left of a blue square"
"""Red circle in the cell "left", blue square in the cell "center", throughout."""


def draw(*objects: tuple[str, str, int]) -> np.ndarray:
    """(colour, shape, cell) on a canvas of 48 px; cells 0 to 8 in reading order."""
    items = [Object(shape, color, 8 + 16 * (cell % 3), 8 + 16 * (cell // 3), 6) for color, shape, cell in objects]
    return render(Scene(tuple(items), 48))


CIRCLE, SQUARE, GREEN = ("red", "circle", 3), ("blue", "square", 4), ("green", "square", 4)
BOTH = (
    "<ins>add a red circle at the left and a blue square at the center</ins><des>a red circle and a blue square</des>"
)
HALF = "<ins>add a red circle at the left</ins><des>a red circle</des>"
REST = "<ins>add a blue square at the center</ins><des>a red circle and a blue square</des>"
FAULT = "the sketch shows a green square<refine>change the green square at the center to blue</refine>"
DONE = "the sketch follows the plan and the prompt is complete"


def told(*said: str | np.ndarray, prompt: str = PROMPT, ended: Ending | None = Ending.STOP, **meta) -> Transcript:
    """A transcript in which each content takes the one stage that is legal for it; "" is the end."""
    transcript = Transcript(prompt=prompt, size=48, meta=meta)
    for content in said:
        is_image, is_stop = not isinstance(content, str), isinstance(content, str) and not content
        is_plan = isinstance(content, str) and content.startswith("<ins>")
        (stage,) = (
            s
            for s in transcript.legal()
            if s.is_image == is_image and (s is Stage.PLAN) == is_plan and (s is Stage.STOP) == is_stop
        )
        assert not transcript.record(Emission(stage, content)), content
    transcript.ended = ended or transcript.ended
    return transcript


class Says:
    """A judge that answers from a list, and remembers what it was asked."""

    def __init__(self, *verdicts):
        self.verdicts, self.asked = verdicts, []

    def ask(self, requests):
        self.asked += requests
        return [self.verdicts[k % len(self.verdicts)] for k in range(len(requests))]


def said(choice, **notes):
    return Verdict(status="ok", data={"choice": choice, **notes}, prompt_tokens=10, completion_tokens=5, attempts=2)
