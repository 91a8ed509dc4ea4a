"""A search draws as many as another evaluation cost; two evaluations are compared drawing by drawing."""

import pytest

from strokes.agents.scripted import ScriptedPainter
from strokes.agents.search import BestOfN
from strokes.envs import Transcript
from strokes.rewards import SceneReward
from strokes.rl.drawings import Drawing
from strokes.rl.equal_cost import at_equal_cost, matched
from strokes.rl.evaluation_folder import EvaluationFolder
from strokes.rl.pairing import pair


@pytest.fixture
def folders(tmp_path):
    """Writes an evaluation of given drawings; gives the folder's name."""

    def write(name, drawings, **settings):
        settings = {"benchmark": {"name": "scenes"}, "split": "heldout", "size": 48, "seed": 0, **settings}
        settings["policy"] = {"name": name, **settings.get("policy", {})}
        EvaluationFolder(tmp_path / name).add(0, drawings, [Transcript(prompt="x", size=48)], settings)
        return str(tmp_path / name)

    return write


def marks(task, values, steps=12):
    facts = dict(chunk=0, seen=False, plans=(), repairs=(), sketches=(), emissions=4, illegal=0, nfe=0, tokens=0)
    facts |= dict(seed=0, calls=0, remote_tokens=0, seconds=0.0, steps=steps)
    return [
        Drawing(id=f"{task}-p{k}", task=task, prompt_id=f"p{k}", official=v, strict=v, soft=v, **facts)
        for k, v in enumerate(values)
    ]


def test_a_search_draws_what_another_evaluation_cost(folders):
    like = folders("a", marks("colors", [1.0, 1.0], steps=17) + marks("position", [1.0], steps=40))
    nums = matched(like, None, 12)
    assert nums == {"colors": 1, "position": 3}
    search = BestOfN(ScriptedPainter(), 4, SceneReward())
    assert at_equal_cost(search, nums, "position").n == 3 and at_equal_cost(search, None, "position") is search
    with pytest.raises(ValueError, match="that drew counting, got colors, position"):
        at_equal_cost(search, nums, "counting")
    with pytest.raises(ValueError, match="a policy that samples"):
        matched(folders("b", marks("colors", [1.0], steps=0)), None, 12)


def test_what_one_drawing_of_a_search_costs_is_told_by_an_evaluation(folders):
    like = folders("like", marks("colors", [1.0], steps=240) + marks("position", [1.0], steps=240))
    strokes = folders("strokes", marks("colors", [1.0, 1.0], steps=12) + marks("position", [1.0, 0.0], steps=27))
    assert matched(like, strokes, 12) == {"colors": 20, "position": 9}
    pruned = marks("colors", [1.0], steps=60) + marks("position", [1.0], steps=240)
    assert matched(like, folders("pruned", pruned, policy={"n": 20}), 12) == {"colors": 80, "position": 20}
    again = folders("again", pruned, policy={"n": 4}, drawings_per_canvas={"colors": 10, "position": 20})
    assert matched(like, again, 12) == {"colors": 40, "position": 20}
    with pytest.raises(ValueError, match=r"policy\.unit to be an evaluation that drew position, got"):
        matched(like, folders("narrow", marks("colors", [1.0])), 12)
    with pytest.raises(ValueError, match=r"policy\.unit to be an evaluation of a policy that samples"):
        matched(like, folders("idle", marks("colors", [1.0], steps=0)), 12)


def test_a_comparison_is_the_mean_of_paired_differences(folders):
    first = folders("a", marks("colors", [1.0, 1.0, 0.0, 1.0]) + marks("position", [1.0, 1.0], steps=24))
    second = folders("b", marks("colors", [1.0, 0.0, 0.0, 0.0]) + marks("position", [0.0, 1.0]))
    compared = pair(first, second)
    rows = {row.task: row.difference for row in compared.comparisons["strict"].rows}
    assert rows["colors"].mean == rows["position"].mean == rows["overall"].mean == 0.5
    assert rows["position, color_attr, composition"].mean == 0.5
    assert rows["colors"].low == 0 and rows["colors"].high == 1
    assert [side.steps for side in compared.sides] == [16, 12]
    assert "| colors | 4 | 4 | +0.500 [+0.000, +1.000] |" in compared.to_markdown()


def test_what_is_not_comparable_is_refused_or_said(folders):
    one = folders("a", marks("colors", [1.0, 0.0]))
    with pytest.raises(ValueError, match="same split, got 'heldout' and 'train'"):
        pair(one, folders("b", marks("colors", [1.0]), split="train"))
    with pytest.raises(ValueError, match="in common"):
        pair(one, folders("c", marks("counting", [1.0])))
    notes = " ".join(pair(one, folders("d", marks("colors", [1.0]), seed=1)).notes)
    assert "noise is not" in notes and "Without a judged partner: 1 drawings" in notes
