"""The held-out set: the same drawings at every look, a line for each look, and figures of all kinds together."""

import json

import numpy as np
import pytest

from strokes.agents.rollout import Rules, rollout
from strokes.agents.scripted import Habits, ScriptedPainter
from strokes.envs.scenes.tasks import heldout
from strokes.rl.heldout import HeldOut

TAGS = [*dict.fromkeys(task.tag for task in heldout())]


class Draw:
    """A scripted painter that remembers what it was asked for."""

    def __init__(self, budget=32, **habits):
        self.painter, self.rules, self.asked = ScriptedPainter(Habits(**habits)), Rules(budget=budget), []
        self.was_greedy = []

    def __call__(self, episodes, *, is_greedy):
        self.asked.append(list(episodes))
        self.was_greedy.append(is_greedy)
        return rollout(self.painter, episodes, rules=self.rules)


@pytest.fixture
def looked(tmp_path):
    """Two tasks of each kind, not looked at yet; the folder of its history is not there yet either."""
    return HeldOut(tmp_path / "run" / "heldout.jsonl", limit=2)


def test_a_look_is_a_line_with_a_row_for_each_kind_and_for_all(looked):
    looked.look(3, Draw())
    (line,) = looked.path.read_text().splitlines()
    assert json.loads(line) == looked.history()[0] and json.loads(line)["step"] == 3
    rows = looked.history()[0]["rows"]
    assert [row["task"] for row in rows] == [*TAGS, "overall"]
    assert [row["drawings"] for row in rows] == [2] * len(TAGS) + [2 * len(TAGS)]
    assert all(row[name]["mean"] == 1 for row in rows for name in ("strict", "soft", "official"))


def test_figures_are_means_over_kinds_and_judged_exactly(looked):
    right = looked.look(0, Draw())
    spoilt = looked.look(1, Draw(budget=2, error_rate=1.0, per_step=(1, 1)))
    assert right.keys() == spoilt.keys() == {"strict", "soft", "official", "images"}
    assert all(type(value) is float for value in (*right.values(), *spoilt.values()))
    assert (right["strict"], right["soft"], right["official"]) == (1.0, 1.0, 1.0) and right["images"] > 1
    assert spoilt["strict"] <= spoilt["official"] < spoilt["soft"] < 0.5 and spoilt["images"] == 1
    rows = looked.history()[1]["rows"]
    for name in ("strict", "soft", "official"):
        assert spoilt[name] == rows[-1][name]["mean"] == pytest.approx(np.mean([r[name]["mean"] for r in rows[:-1]]))
    assert spoilt["images"] == rows[-1]["images"]


def test_every_look_asks_for_the_same_drawings_with_the_same_noise(looked, tmp_path):
    draw = Draw()
    for step in (0, 1):
        looked.look(step, draw)
    first, second = draw.asked
    assert first == second and [episode.prompt for episode in first] == [task.prompt for task in heldout(limit=2)]
    assert len({episode.seed for episode in first}) == len(first)
    HeldOut(tmp_path / "small.jsonl", limit=1).look(0, draw)
    HeldOut(tmp_path / "other.jsonl", limit=1, seed=1).look(0, draw)
    *_, small, other = draw.asked
    assert small == first[::2] and not {e.seed for e in small} & {e.seed for e in other}


def test_samples_of_a_task_differ_in_their_noise_alone(tmp_path):
    draw, once = Draw(), Draw()
    twice = HeldOut(tmp_path / "twice.jsonl", limit=1, num_samples=2)
    twice.look(0, draw)
    HeldOut(tmp_path / "once.jsonl", limit=1).look(0, once)
    assert draw.asked[0][::2] == once.asked[0]
    for one, two in zip(draw.asked[0][::2], draw.asked[0][1::2], strict=True):
        assert (one.prompt, one.meta) == (two.prompt, two.meta) and one.seed != two.seed
    overall = twice.history()[0]["rows"][-1]
    assert (overall["prompts"], overall["drawings"]) == (len(TAGS), 2 * len(TAGS))


def test_looking_again_takes_the_place_of_that_line_and_of_later_ones(looked):
    for step in (0, 2, 4, 6):
        looked.look(step, Draw(budget=2))
    before = looked.path.read_text().splitlines()
    looked.look(3, Draw())
    assert [line["step"] for line in looked.history()] == [0, 2, 3]
    looked.look(2, Draw())
    lines = looked.path.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 2]
    assert lines[0] == before[0] and lines[1] != before[1]


def test_another_process_goes_on_with_the_history(looked):
    looked.look(0, Draw())
    again = HeldOut(looked.path, limit=2)
    again.look(5, Draw())
    first, second = again.history()
    assert (first["step"], second["step"]) == (0, 5) and first["rows"] == second["rows"]


def test_a_draw_that_loses_drawings_is_refused_and_leaves_no_line(looked):
    with pytest.raises(ValueError, match="shorter"):
        looked.look(0, lambda episodes, is_greedy: Draw()(episodes[:-1], is_greedy=is_greedy))
    assert looked.history() == []


def test_the_set_is_also_drawn_as_the_policy_learns_where_asked_for(tmp_path):
    draw, held = Draw(), HeldOut(tmp_path / "both.jsonl", limit=1, is_sampled=True)
    figures = held.look(0, draw)
    assert draw.was_greedy == [True, False] and draw.asked[0] == draw.asked[1]
    assert figures["sampled_strict"] == figures["strict"] == 1.0
    assert held.history()[0]["sampled"] == held.history()[0]["rows"]
