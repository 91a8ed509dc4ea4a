"""Small drawings by hand, and a judge that answers from a list."""

from strokes.envs.scenes.render import Object, Scene, render
from strokes.envs.stages import Emission, Stage
from strokes.envs.transcript import Ending, Transcript
from strokes.rewards.question import Verdict

PROMPT = "a red circle left of a blue square"


def draw(*objects):
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


def told(*said, prompt=PROMPT, ended=Ending.STOP):
    """A transcript in which each content takes the one stage that is legal for it."""
    transcript = Transcript(prompt=prompt, size=48)
    for content in said:
        is_plan = isinstance(content, str) and content.startswith("<ins>")
        (stage,) = (
            s
            for s in transcript.legal()
            if s is not Stage.STOP and s.is_image != isinstance(content, str) and (s is Stage.PLAN) == is_plan
        )
        assert not transcript.record(Emission(stage, content))
    transcript.ended = ended
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
