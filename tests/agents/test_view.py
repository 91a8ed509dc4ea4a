"""The terminal shows every emission, and nothing a model wrote can command it."""

import io

import numpy as np
import pytest

from strokes.agents.view import Lines, Terminal, make_view
from strokes.envs import Ending, Entry, Stage, Transcript


class Tty(io.StringIO):
    def isatty(self):
        return True


PLAN = Entry(stage=Stage.PLAN, content="<ins>a [bold]\x1b[2J\x1b]0;title\x07</ins>\n<des>b</des>", terms={"plan": 0.5})
IMAGE = Entry(stage=Stage.SKETCH, content=np.full((16, 16, 3), 255, np.uint8), terms={"sketch": None})
ILLEGAL = Entry(stage=Stage.STOP, content="", error="Expected SKETCH after PLAN, got STOP.")


def test_elsewhere_than_on_a_terminal_there_is_one_plain_line_per_emission():
    stream = io.StringIO()
    view = make_view(stream, 2)
    for entry in (PLAN, IMAGE, ILLEGAL):
        view.emission(1, entry)
    view.ended(1, Transcript(prompt="x", size=16, ended=Ending.BUDGET))
    assert stream.getvalue().splitlines() == [
        "[2/2] plan: <ins>a [bold]</ins> <des>b</des>  (0.50)",
        "[2/2] sketch: an image",
        "[2/2] stop:   (illegal: Expected SKETCH after PLAN, got STOP.)",
        "[2/2] ended by budget: not judged",
    ]


def test_a_terminal_shows_words_and_thumbnails():
    stream = Tty()
    view = make_view(stream)
    assert isinstance(view, Terminal)
    with view.waiting("Drawing"):
        view.emission(0, PLAN)
        view.emission(0, IMAGE)
    shown = stream.getvalue()
    assert "<ins>a [bold]" in shown and "\u2580" in shown
    assert "\x1b]0" not in shown and "\x07" not in shown


def test_without_rich_a_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    assert type(make_view(Tty())) is Lines


def test_a_stream_without_the_characters_of_a_prompt_shows_question_marks():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    make_view(stream).emission(0, Entry(stage=Stage.INSPECT, content="étoile 星"))
    stream.flush()
    assert stream.buffer.getvalue() == b"inspect: ?toile ?\n"


@pytest.mark.parametrize("entry", [PLAN, IMAGE, ILLEGAL])
def test_a_view_never_fails_on_an_entry(entry):
    for view in (Lines(io.StringIO()), Terminal(Tty())):
        view.emission(0, entry)
