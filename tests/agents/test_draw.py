"""One command draws one prompt and leaves everything that happened behind."""

import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from strokes.agents import draw
from strokes.agents.command import PROMPT
from strokes.envs import Emission, Reply, Stage, load_transcripts
from strokes.envs.transcript import Transcript

PLANNED = "a red circle left of a blue square, and two green stars"


class Session:
    def __init__(self, transcript, size):
        self.transcript, self.size = transcript, size


class Mute:
    """A policy that never draws: it plans until the budget is used up."""

    def start(self, transcript, size, seed):
        return Session(transcript, size)

    def act(self, sessions, masks):
        return [Reply(emission=Emission(Stage.PLAN, "\x1b[31m<ins>a</ins><des>b</des>\x07")) for _ in sessions]

    def close(self, sessions):
        pass


@pytest.fixture
def strokes_draw(monkeypatch, tmp_path):
    """Runs the command as the shell would, in an empty folder; gives its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PROMPT, "")
    monkeypatch.delenv(PROMPT)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["strokes-draw", *arguments])
        return draw.main()

    return call


def test_the_scripted_painter_draws_a_prompt(strokes_draw, tmp_path, capsys):
    assert strokes_draw(PLANNED, "policy=scripted", "out=run", "seed=1") == 0
    (transcript,) = load_transcripts(tmp_path / "run" / "transcript.jsonl")
    assert transcript.prompt == PLANNED
    assert transcript.score == 1.0
    final = np.array(Image.open(tmp_path / "run" / "final.png"))
    assert np.array_equal(final, transcript.canvas)
    report = (tmp_path / "run" / "report.html").read_text()
    assert PLANNED in report
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("plan: <ins>") and lines[-2] == "ended by stop: score 1.00"
    assert lines[-1] == f"report: {tmp_path / 'run' / 'report.html'}"


def test_metrics_say_what_was_drawn_and_what_it_cost(strokes_draw, tmp_path):
    assert strokes_draw(PLANNED, "policy=scripted", "out=run", "num_samples=3") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    transcripts = load_transcripts(tmp_path / "run" / "transcript.jsonl")
    assert metrics["prompt"] == PLANNED
    assert metrics["policy"]["name"] == "scripted"
    assert [sample["id"] for sample in metrics["samples"]] == [transcript.id for transcript in transcripts]
    assert [sample["images"] for sample in metrics["samples"]] == [len(t.images) for t in transcripts]
    assert metrics["samples"][0]["cost"]["nfe"] == 0
    assert len({transcript.id for transcript in transcripts}) == 3
    assert metrics["final"] in {transcript.id for transcript in transcripts}


def test_the_same_seed_draws_the_same(strokes_draw, tmp_path):
    for out, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert strokes_draw(PLANNED, "policy=scripted", f"out={out}", f"seed={seed}") == 0
    a, b, c = (load_transcripts(tmp_path / out / "transcript.jsonl")[0] for out in "abc")
    assert a.emissions == b.emissions
    assert a.emissions != c.emissions


def test_a_prompt_outside_the_language_is_drawn_and_not_judged(strokes_draw, tmp_path, capsys):
    prompt = "Ein „Stern“, $5 = ${HOME} (null) <ins>\nund 星"
    assert strokes_draw(prompt, "policy=scripted", "out=run") == 0
    (transcript,) = load_transcripts(tmp_path / "run" / "transcript.jsonl")
    assert transcript.prompt == prompt
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["samples"][0]["score"] is None
    assert "not judged" in capsys.readouterr().out


def test_a_prompt_survives_a_real_shell(tmp_path):
    prompt = 'it\'s "one", (two) = $HOME ${x} `ls` \\ null\nétoile 星'
    command = [sys.executable, "-m", "strokes.agents.draw", prompt, "policy=scripted", "out=run"]
    subprocess.run(["sh", "-c", shlex.join(command)], cwd=tmp_path, check=True, capture_output=True)
    assert load_transcripts(tmp_path / "run" / "transcript.jsonl")[0].prompt == prompt


@pytest.mark.parametrize("arguments", [["a" * 5000], ["a star", "size=50"]])
def test_what_no_canvas_takes_is_refused_before_a_model_is_loaded(strokes_draw, monkeypatch, arguments):
    monkeypatch.setattr(draw, "load_policy", lambda *args, **kwargs: pytest.fail("loaded"))
    assert strokes_draw(*arguments, "out=run") == 1


def test_a_policy_that_draws_nothing_fails(strokes_draw, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(draw, "load_policy", lambda *args, **kwargs: Mute())
    assert strokes_draw("a red circle", "out=run") == 1
    captured = capsys.readouterr()
    assert "Expected images" in captured.err
    assert "\x1b" not in captured.out and "\x07" not in captured.out
    assert (tmp_path / "run" / "transcript.jsonl").exists()
    assert not (tmp_path / "run" / "final.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Expected a prompt"),
        (["a" * 5000], "at most 4096 characters, got 5000"),
        (["a star", "seed=x"], "Expected seed to be an integer of at least 0, got 'x'"),
        (["a star", "size=50"], "multiple of 16"),
        (["a star", "+depth=3"], "depth"),
        (["a star", "policy=custom", "policy.target=json:JSONDecoder"], "policy.target"),
        (["a star", "policy=custom", "policy.target=nowhere:Painter"], "nowhere"),
        (["a star", "policy=custom"], "module:name"),
    ],
)
def test_bad_input_is_answered_in_one_line(strokes_draw, capsys, arguments, words):
    assert strokes_draw(*arguments, "out=run") == 1
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": ""}, "Expected a prompt"),
        ({"prompt": " \n"}, "Expected a prompt"),
        ({"prompt": "a\udcff"}, "UTF-8"),
        ({"seed": True}, "seed"),
        ({"seed": -1}, "seed"),
        ({"num_samples": 0}, "num_samples"),
        ({"steps": 0}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"guidance": float("nan")}, "guidance"),
        ({"guidance": "high"}, "guidance"),
        ({"size": None}, "size"),
    ],
)
def test_wrong_settings_are_refused(change, words):
    right = dict(prompt="x", seed=0, num_samples=1, steps=None, guidance=3, size=48, out="out", policy={})
    draw.Settings(**right)
    with pytest.raises(ValueError, match=words):
        draw.Settings(**{**right, **change})


def test_a_policy_of_ones_own_is_named_by_its_entry_point(strokes_draw, tmp_path):
    arguments = ["policy=custom", "policy.target=strokes.agents.scripted:ScriptedPainter"]
    assert strokes_draw("two moons", *arguments, "out=run") == 0


def test_a_bagel_checkpoint_draws_at_once(strokes_draw, tmp_path):
    checkpoint = Path(__file__).parents[1] / "golden" / "bagel" / "checkpoint"
    settings = ["policy=one-shot", f"policy.path={checkpoint}", "steps=2", "size=32", "out=run"]
    assert strokes_draw("null", *settings) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["samples"][0]["cost"]["steps"] == 2
    assert Image.open(tmp_path / "run" / "final.png").size == (32, 32)


def test_a_person_draws_at_the_console(strokes_draw, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("draw a moon\na red moon\na red moon\nit is there\n\nstop\n"))
    assert strokes_draw("a red moon", "policy=human", "out=run") == 0
    assert load_transcripts(tmp_path / "run" / "transcript.jsonl")[0].emissions[0].source == "human"


def test_a_person_who_leaves_ends_the_drawing(strokes_draw, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("draw a moon\n"))
    assert strokes_draw("a red moon", "policy=human", "out=run") == 1
    assert "EOF" in capsys.readouterr().err


def test_the_random_policy_draws_something(strokes_draw, tmp_path):
    assert strokes_draw("a red moon", "policy=random", "out=run") == 0
    (transcript,) = load_transcripts(tmp_path / "run" / "transcript.jsonl")
    assert not any(entry.error for entry in transcript.emissions)


def test_the_best_judged_drawing_is_the_final_one():
    def drawn(score, images=1):
        transcript = Transcript(prompt="x", size=16)
        transcript.record(Emission(Stage.PLAN, "<ins>a</ins><des>b</des>"))
        if images:
            transcript.record(Emission(Stage.SKETCH, np.zeros((16, 16, 3), np.uint8)))
        transcript.score = score
        return transcript

    assert draw.best_of([drawn(0.2), drawn(0.9), drawn(0.9)]) == 1
    assert draw.best_of([drawn(None), drawn(0.0)]) == 1
    assert draw.best_of([drawn(None, images=0), drawn(None), drawn(None)]) == 1
    assert draw.best_of([drawn(1.0, images=0)]) is None
