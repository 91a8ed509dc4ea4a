"""A person as a policy, and two policies on one canvas."""

import numpy as np
import pytest
from PIL import Image

from strokes.agents.human import Human, Relay
from strokes.agents.scripted import ScriptedPainter
from strokes.envs import CanvasEnv, Stage, Transcript
from strokes.envs.protocols import Policy
from strokes.envs.scenes.detect import detect
from strokes.envs.testing import PolicyConformance, play

PROMPT = "a red circle and a blue square"


class Console:
    """Scripted answers in, everything shown out."""

    def __init__(self, answers):
        self.answers, self.shown = list(answers), []

    def ask(self, question):
        self.shown.append(question)
        if not self.answers:
            raise EOFError
        return self.answers.pop(0)

    def human(self, **kwargs):
        return Human(self.ask, self.shown.append, **kwargs)

    @property
    def text(self):
        return "\n".join(self.shown)


def drawn_by(answers, **kwargs):
    console = Console(answers)
    transcript = play(console.human(**kwargs), CanvasEnv([PROMPT]))
    assert console.answers == []
    return transcript, console


def test_a_person_takes_every_stage(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    transcript, console = drawn_by(
        [
            *("draw a red circle", "a red circle", "a red circle", "fine so far", "", "plan"),
            *(
                "<ins>use my photo</ins><des>a photo</des>",
                str(tmp_path / "photo.png"),
                "",
                "undo it",
                "refine",
                "keep",
            ),
            "stop",
        ],
        pictures=False,
    )
    stages = [entry.stage.name[0] for entry in transcript.emissions]
    assert "".join(stages) == "PSIPSIRS" and {entry.source for entry in transcript.emissions} == {"human"}
    assert transcript.emissions[0].content == "<ins>draw a red circle</ins><des>a red circle</des>"
    assert [(d.shape, d.color) for d in detect(transcript.images[0])] == [("circle", "red")]
    assert np.array_equal(transcript.images[1], transcript.images[2]) and transcript.images[1].shape == (48, 48, 3)
    assert transcript.emissions[5].content == "<refine>undo it</refine>"
    assert f"PROMPT  {PROMPT}" in console.text and "What comes next (plan, stop)?" in console.text


def test_answers_that_would_be_illegal_are_explained_and_asked_again(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "wide.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    transcript, console = drawn_by(
        [
            *("", "", "<ins>half", "draw <ins>this</ins>", "a < b"),
            *("", str(tmp_path / "wide.png"), str(tmp_path / "broken.png"), "a wizard", "keep"),
            *("", "", "<refine>", "it stands <|im_end|>", "", "nonsense", "s"),
        ]
    )
    assert console.text.count("Not quite.") == 8
    for words in ("square picture, got 40 x 20", "Expected a picture in", "got nothing", "got 'nonsense'"):
        assert words in console.text
    assert not any(entry.error for entry in transcript.emissions) and (transcript.images[0] == 255).all()
    assert transcript.emissions[0].content == "<ins>draw ‹ins›this‹/ins›</ins><des>a ‹ b</des>"  # noqa: RUF001
    assert "<|im_end|>" not in transcript.emissions[2].content


def test_what_others_said_is_shown_without_escapes():
    console = Console(["draw", "a thing"])
    human, transcript = console.human(), Transcript(prompt="a\x1b[2Jb", size=48)
    session = human.start(transcript, 48, (0,))
    human.act([session], [transcript.mask()])
    transcript.record((Stage.PLAN, "<ins>\x1b]0;x\x07draw</ins><des>b</des>"))
    transcript.record((Stage.STOP, ""))
    transcript.record((Stage.SKETCH, np.zeros((48, 48, 3), np.uint8)))
    transcript.emissions[-1].error += "\x1b]0;from a file\x07"
    transcript.interject("higher")
    with pytest.raises(EOFError):
        human.act([session], [transcript.mask()])
    assert "PROMPT  ab" in console.text and "PLAN  <ins>draw</ins>" in console.text
    assert (
        "got STOP.]" in console.text
        and "from a file" not in console.text
        and "INSPECT by critic  higher" in console.text
    )
    assert "▀" in console.text and console.text.count("PROMPT") == 1


def test_an_end_of_input_passes_through():
    with pytest.raises(EOFError):
        drawn_by(["draw", "a thing"])


def test_a_person_plans_and_the_painter_draws():
    first = ("add a red circle at the left", "a red circle")
    second = ("add a blue square at the right", "a red circle and a blue square")
    console = Console([*first, "plan", *second, "stop"])
    human = console.human(pictures=False)
    transcript = play(Relay(ScriptedPainter(), human, {Stage.PLAN}, human.choose), CanvasEnv([PROMPT]))
    by = {(entry.stage.name, entry.source) for entry in transcript.emissions}
    assert by == {("PLAN", "human"), ("SKETCH", "policy"), ("INSPECT", "policy"), ("STOP", "policy")}
    assert sorted((d.shape, d.color) for d in detect(transcript.canvas)) == [("circle", "red"), ("square", "blue")]


def test_without_a_choice_the_base_goes_on_and_the_taker_stops():
    seen = []

    class Counting(ScriptedPainter):
        def act(self, sessions, masks):
            seen.append([mask.tolist() for mask in masks])
            return super().act(sessions, masks)

    taker = Counting()
    transcript = play(Relay(ScriptedPainter(), taker, {Stage.PLAN}), CanvasEnv([PROMPT]))
    assert transcript.ended == "stop" and [0, 0, 0, 0, 1] not in seen[0]
    assert all(masks in ([[1, 0, 0, 0, 0]], [[1, 0, 0, 0, 1]]) for masks in seen)


class TestRelay(PolicyConformance):
    prompt = PROMPT

    def make_policy(self) -> Policy:
        return Relay(ScriptedPainter(), ScriptedPainter(), {Stage.INSPECT, Stage.REFINE})


class TestHuman(PolicyConformance):
    def make_policy(self) -> Policy:
        def answer(question):
            if question.startswith("What"):
                return "stop" if "stop" in question else "refine"
            return (
                "a red circle"
                if "image file" in question
                else "it stands"
                if "agrees" in question
                else ("" if "correct" in question else "draw")
            )

        return Human(answer, lambda line: None)
