"""Steering: save, cut at a stage, edit, and let any policy go on from there."""

import numpy as np
import pytest

from strokes.agents.human import Human
from strokes.agents.load import load_policy
from strokes.agents.scripted import Habits, ScriptedPainter
from strokes.envs import CanvasEnv, Stage, append_transcript, load_transcripts
from strokes.envs.testing import play
from strokes.rewards.scenes import SceneReward

PROMPT = "a red circle left of a blue square"


def scripted():
    return ScriptedPainter(), True


def human():
    """A person who draws the whole prompt at once, wherever the drawing stands."""

    drawn = []

    def answer(question):
        if question.startswith("What"):
            return "stop" if "stop" in question and drawn and not drawn.clear() else "plan"
        if "image file" in question:
            drawn.append(PROMPT)
        return "" if "correct" in question else "it stands" if "agrees" in question else PROMPT

    return Human(answer, lambda line: None, pictures=False), True


def bagel_tiny():
    """The shipped model; it draws well, not always."""
    return load_policy(BAGEL_TINY, steps=12, guidance=3.0), False


BAGEL_TINY = {
    "name": "bagel-tiny",
    "path": None,
    "device": "cpu",
    "dtype": "float32",
    "temperature": 0.0,
    "max_tokens": 96,
    "sampling": {"timestep_shift": 1.0, "cfg_interval": [0.0, 1.0], "cfg_renorm_min": 1.0},
}
POLICIES = {"scripted": scripted, "human": human, "bagel-tiny": bagel_tiny}
"""Name to (policy, whether it fulfils the prompt from any stage). A further policy is one line."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A drawing with a mistake in it, written and read back."""
    path = tmp_path_factory.mktemp("run") / "transcripts.jsonl"
    painter = ScriptedPainter(Habits(error_rate=1.0))
    append_transcript(play(painter, CanvasEnv([PROMPT], SceneReward()), (1,)), path)
    (transcript,) = load_transcripts(path)
    assert transcript.ended == "stop" and Stage.REFINE in [entry.stage for entry in transcript.emissions]
    return transcript


@pytest.fixture(params=POLICIES)
def policy(request):
    return POLICIES[request.param]()


def finish(policy, transcript, tmp_path):
    """Continue, save, read back; the judged transcript."""
    done = play(policy, CanvasEnv([PROMPT], SceneReward()), (7,), transcript=transcript)
    append_transcript(done, tmp_path / "t.jsonl")
    loaded = load_transcripts(tmp_path / "t.jsonl")[-1]
    assert loaded == done and done.ended == "stop"
    return done


def test_a_drawing_is_continued_from_any_stage(policy, saved, tmp_path):
    policy, fulfils = policy
    for k in range(len(saved.emissions)):
        done = finish(policy, saved.cut(k), tmp_path)
        assert done.emissions[:k] == saved.emissions[:k]
        assert done.score == 1.0 or not fulfils


def test_an_edited_plan_is_drawn(policy, saved, tmp_path):
    policy, fulfils = policy
    edited = saved.edit(0, "<ins>add a red circle at the top left</ins><des>a red circle</des>")
    done = finish(policy, edited, tmp_path)
    assert done.emissions[0].source == "human" and done.emissions[0].content == edited.emissions[0].content
    assert done.score == 1.0 or not fulfils


def test_an_edited_inspection_changes_what_may_follow(policy, saved, tmp_path):
    policy, fulfils = policy
    k = next(k for k, entry in enumerate(saved.emissions) if entry.stage is Stage.INSPECT)
    done = finish(policy, saved.edit(k, "the sketch follows the plan"), tmp_path)
    assert done.accepted[k + 1].stage in (Stage.PLAN, Stage.STOP)
    again = saved.edit(k, "not what I meant <refine>redraw the red circle at the left</refine>")
    assert again.legal() == {Stage.PLAN, Stage.REFINE}
    assert finish(policy, again, tmp_path).score == 1.0 or not fulfils


def test_an_edited_sketch_is_what_the_rest_builds_on(policy, saved, tmp_path):
    policy, fulfils = policy
    k = next(k for k, entry in enumerate(saved.emissions) if entry.stage is Stage.SKETCH)
    blank = np.full((saved.size, saved.size, 3), 255, np.uint8)
    done = finish(policy, saved.edit(k, blank), tmp_path)
    assert np.array_equal(done.images[0], blank)
    assert done.score == 1.0 or not fulfils


def test_words_from_outside_stay_in_the_continued_record(policy, saved, tmp_path):
    policy, _ = policy
    spoken = saved.cut(2)
    spoken.interject("please keep the circle on the left")
    done = finish(policy, spoken, tmp_path)
    assert done.emissions[2].source == "critic" and done.emissions[2].content in spoken.emissions[2].content
