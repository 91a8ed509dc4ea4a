"""Exact rewards of scenes, on drawings small enough to be judged by hand."""

import copy
import pickle

import drawn
import numpy as np
import pytest
from drawn import BOTH, CIRCLE, DONE, GREEN, PROMPT, SQUARE, draw

from strokes.agents.scripted import Habits, demonstrate
from strokes.envs.protocols import Reward, Score
from strokes.envs.scenes import detect as detector
from strokes.envs.scenes.render import COLORS, SHAPES
from strokes.envs.scenes.tasks import sample_task
from strokes.envs.stages import Emission, Stage
from strokes.envs.transcript import CRITIC, GIVEN, Ending, Entry, Transcript
from strokes.rewards import SceneReward, review

STAR = ("pink", "star", 8)


def plan(ins: str, des: str = "a red circle and a blue square") -> str:
    return f"<ins>{ins}</ins><des>{des}</des>"


WRONG = "the sketch shows a green square at the center instead of a blue square"
FIX = "<refine>change the green square at the center to blue</refine>"


def told(*said: str | np.ndarray, ended: Ending | None = None, **given) -> Transcript:
    """Under way, unless its last word is "" or it says otherwise."""
    return drawn.told(*said, ended=ended, **given)


def judge(transcript: Transcript, **options) -> Score:
    (score,) = SceneReward(**options)([transcript])
    assert len(score.steps) == len(transcript.emissions)
    assert set(score.terms) | {name for step in score.steps for name in step} <= set(SceneReward.names)
    return score


def outcome(*objects: tuple[str, str, int], prompt: str = PROMPT) -> tuple[float, float, float]:
    terms = judge(told(BOTH, draw(*objects), prompt=prompt)).terms
    return terms["official"], terms["strict"], terms["soft"]


def test_a_faultless_drawing_has_every_term_at_one():
    score = judge(told(BOTH, draw(CIRCLE, SQUARE), DONE, ""))
    assert score.total == 1 and score.terms == {"official": 1, "strict": 1, "soft": 1}
    assert score.steps == ({"plan": 1}, {"sketch": 1}, {"inspect": 1}, {})


def test_a_repaired_drawing_is_right_and_its_refinement_helped():
    score = judge(told(BOTH, draw(CIRCLE, GREEN), WRONG + FIX, draw(CIRCLE, SQUARE), ""))
    assert score.total == 1
    assert score.steps == ({"plan": 1}, {"sketch": 0.5}, {"inspect": 1}, {"refine": 0.5}, {})


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ((CIRCLE, SQUARE), (1, 1, 1)),
        ((), (0, 0, 0)),
        # circle, its colour, square, its colour, relation: the square's colour is wrong, so its relation cannot hold
        ((CIRCLE, GREEN), (0, 0, 3 / 5)),
        ((("red", "circle", 5), SQUARE), (0, 0, 4 / 5)),
        ((CIRCLE,), (0, 0, 2 / 5)),
        ((CIRCLE, SQUARE, STAR), (1, 0, 0.9)),
    ],
)
def test_outcomes_by_hand(objects, expected):
    assert outcome(*objects) == pytest.approx(expected)


def test_one_of_each_shape_fools_the_official_rule_and_no_other():
    everything = [(color, shape, k) for k, (color, shape) in enumerate(zip(COLORS, SHAPES, strict=True))]
    for shape in SHAPES:
        official, strict, soft = outcome(*everything, prompt=f"a {shape}")
        assert (official, strict) == (1, 0) and soft == pytest.approx(0.3)


def test_the_total_is_the_outcome_of_choice():
    surplus = told(BOTH, draw(CIRCLE, SQUARE, STAR))
    assert [judge(surplus, outcome=name).total for name in ("soft", "strict", "official")] == [0.9, 0, 1]
    with pytest.raises(ValueError, match="Expected an outcome among soft, strict, official"):
        SceneReward(outcome="best")


@pytest.mark.parametrize("color", [(215, 20, 30), (128, 128, 128), (0, 0, 0)])
def test_a_canvas_full_of_colour_is_worth_nothing(color):
    full = np.full((48, 48, 3), color, np.uint8)
    assert judge(told(BOTH, full)).terms == {"official": 0, "strict": 0, "soft": 0}


def test_noise_and_shuffled_pixels_are_worth_nothing():
    rng = np.random.default_rng(0)
    good = draw(CIRCLE, SQUARE)
    shuffled = rng.permutation(good.reshape(-1, 3)).reshape(good.shape)
    noise = rng.integers(0, 256, good.shape).astype(np.uint8)
    for hacked in (shuffled, noise, 255 - good):
        terms = judge(told(BOTH, hacked)).terms
        assert terms["official"] == terms["strict"] == 0 and terms["soft"] < 0.2


@pytest.mark.parametrize(
    "prompt", ["an oil painting of a harbour", "twelve red circles", "a red circle left of", "élan 🎨"]
)
def test_prompts_outside_the_language_are_not_judged(prompt):
    transcript = told(BOTH, draw(CIRCLE, SQUARE), WRONG + FIX, draw(CIRCLE), "", prompt=prompt)
    score = judge(transcript)
    assert score.total is None and set(score.terms.values()) == {None}
    assert score.steps == ({"plan": None}, {"sketch": None}, {"inspect": None}, {"refine": None}, {})
    assert review(transcript).reasons == ("not judged",)


def test_metadata_goes_before_the_prompt():
    meta = {"tag": "single_object", "include": [{"class": "star", "count": 1}]}
    assert judge(told(BOTH, draw(STAR), prompt="whatever it says", **meta)).total == 1
    foreign = {"tag": "single_object", "include": [{"class": "bench", "count": 1}]}
    assert judge(told(BOTH, draw(STAR), prompt="a photo of a bench", **foreign)).total is None
    for broken in (
        {"include": [{}]},
        {"include": 3},
        {"include": [{"class": "star", "count": 1, "position": ["on", 9]}]},
        {"include": [{"class": "star", "count": 1, "position": ["left of", 1]}, {"class": "moon", "count": 1}]},
    ):
        assert judge(told(BOTH, draw(STAR), **broken)).total is None


def test_before_the_first_image_there_is_no_outcome_and_after_the_end_it_is_a_blank():
    assert judge(told()).total is None
    assert judge(told(BOTH)).total is None and judge(told(BOTH)).steps == ({"plan": 1},)
    assert judge(told(BOTH, ended=Ending.BUDGET)).terms == {"official": 0, "strict": 0, "soft": 0}


@pytest.mark.parametrize(
    ("ins", "des", "expected"),
    [
        ("add a red circle at the left and a blue square at the center", "a red circle and a blue square", 1),
        ("add a red circle at the left", "a red circle", 1),  # incomplete is fine
        ("add a green circle at the left", "a green circle", 0),  # not asked for
        ("as a placeholder, add a green circle at the left", "a green circle", 1),  # announced
        ("add a red circle at the left", "a red circle and a blue square", 0),  # they disagree
        (
            "add a red circle at the right and a blue square at the left",
            "a red circle and a blue square",
            0,
        ),  # relation
        ("add a red circle at the left and a red circle at the top", "two red circles", 0),  # one too many
        ("remove the star at the top", "nothing", 0),  # there is none
        ("paint something nice", "something nice", 0),  # not in the language
    ],
)
def test_plans_are_held_against_prompt_and_canvas(ins, des, expected):
    assert judge(told(plan(ins, des))).steps == ({"plan": expected},)


def test_a_plan_must_not_lose_what_is_there_and_asked_for():
    report = "the sketch follows the plan; still missing: a blue square"
    first = (plan("add a red circle at the left", "a red circle"), draw(CIRCLE), report)
    keeps = plan("add a blue square at the center")
    loses = plan("remove the red circle at the left; add a blue square at the center", "a blue square")
    forgets = plan("add a blue square at the center", "a blue square")
    assert [judge(told(*first, then)).steps[-1]["plan"] for then in (keeps, loses, forgets)] == [1, 0, 0]


def test_a_plan_in_relations_must_be_true_of_its_own_places():
    right = BOTH.replace("circle and a blue square</des>", "circle left of a blue square</des>")
    assert judge(told(right)).steps[0]["plan"] == 1
    assert judge(told(right.replace("left of", "above"))).steps[0]["plan"] == 0


def test_idling_is_no_plan_and_what_follows_it_is_not_judged():
    idle = plan("redraw the red circle at the left")
    score = judge(told(BOTH, draw(CIRCLE, SQUARE), DONE, idle, draw(CIRCLE, SQUARE), DONE))
    assert score.steps[3:] == ({"plan": 0}, {"sketch": None}, {"inspect": None})


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ((CIRCLE, SQUARE), 1),
        ((CIRCLE, GREEN), 1 / 2),
        ((CIRCLE, SQUARE, STAR), 2 / 3),
        ((CIRCLE, ("blue", "square", 7)), 1 / 2),  # right thing, wrong place
        ((), 0),
        ((("green", "heart", 0), ("black", "moon", 8)), 0),
    ],
)
def test_sketches_are_held_against_the_plan(objects, expected):
    assert judge(told(BOTH, draw(*objects))).steps[1]["sketch"] == pytest.approx(expected)


def test_a_sketch_follows_a_wrong_plan_all_the_same():
    wrong = plan("add a green square at the center", "a green square")
    score = judge(told(wrong, draw(GREEN)))
    assert score.steps == ({"plan": 0}, {"sketch": 1}) and score.total < 1


def test_open_places_and_colours_are_met_by_any():
    open_plan = plan("add a circle and a square", "a circle and a square")
    for objects in ((CIRCLE, SQUARE), (("green", "circle", 8), ("pink", "square", 0))):
        assert judge(told(open_plan, draw(*objects), prompt="a circle and a square")).steps == (
            {"plan": 1},
            {"sketch": 1},
        )


def test_after_a_plan_in_other_words_nothing_can_be_held_against_it():
    score = judge(told(plan("paint", "art"), draw(CIRCLE), "looks fine", ""))
    assert score.steps == ({"plan": 0}, {"sketch": None}, {"inspect": None}, {})
    assert score.total == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("objects", "inspection", "expected"),
    [
        ((CIRCLE, SQUARE), DONE, 1),
        ((CIRCLE, SQUARE), "all good", 0.5),  # right, and says nothing that could be checked
        ((CIRCLE, SQUARE), "the sketch follows the plan; still missing: a blue square", 0.5),
        ((CIRCLE, SQUARE), WRONG + FIX, 0),  # false alarm
        ((CIRCLE, GREEN), DONE, 0),  # overlooked
        ((CIRCLE, GREEN), WRONG + FIX, 1),
        ((CIRCLE, GREEN), WRONG + "<refine>change the green square at the center to red</refine>", 0.5),
        ((CIRCLE, GREEN), WRONG + "<refine>make it better</refine>", 0.5),
        ((CIRCLE, GREEN), WRONG + "<refine>remove the pink moon at the top</refine>", 0.5),
    ],
)
def test_inspections_are_held_against_the_truth(objects, inspection, expected):
    transcript = told(BOTH, draw(*objects), inspection)
    assert judge(transcript).steps[2]["inspect"] == expected
    assert review(transcript).inspections == (("<refine>" in inspection, objects != (CIRCLE, SQUARE)),)


def test_an_inspection_also_finds_what_the_plan_got_wrong():
    wrong = plan("add a red circle at the left and a green square at the center", "a red circle and a green square")
    says = "the plan asks for a green square at the center, the prompt does not"
    right = judge(told(wrong, draw(CIRCLE, GREEN), says + FIX, draw(CIRCLE, SQUARE)))
    assert right.steps == ({"plan": 0}, {"sketch": 1}, {"inspect": 1}, {"refine": pytest.approx(1 / 3)})
    blind = judge(told(wrong, draw(CIRCLE, GREEN), "the sketch follows the plan", ""))
    assert blind.steps[2] == {"inspect": 0}
    rewritten = plan("change the green square at the center to blue")
    assert judge(told(wrong, draw(CIRCLE, GREEN), says + FIX, rewritten)).steps[3] == {"plan": 1}


@pytest.mark.parametrize(
    ("after", "expected"),
    [((CIRCLE, SQUARE), 0.5), ((CIRCLE, GREEN), 0), ((GREEN,), -0.5), ((STAR, GREEN), -0.5), ((), -0.5)],
)
def test_refinements_are_worth_what_they_improve(after, expected):
    transcript = told(BOTH, draw(CIRCLE, GREEN), WRONG + FIX, draw(*after))
    assert judge(transcript).steps[3]["refine"] == pytest.approx(expected)
    assert review(transcript).refinements == pytest.approx((expected,))


def test_a_refinement_of_everything_is_worth_one():
    nothing = "the sketch lacks a red circle at the left; the sketch lacks a blue square at the center"
    fix = "<refine>add a red circle at the left and a blue square at the center</refine>"
    assert judge(told(BOTH, draw(), nothing + fix, draw(CIRCLE, SQUARE))).steps[2:] == ({"inspect": 1}, {"refine": 1})


def test_illegal_emissions_and_words_from_outside_have_no_terms_and_change_nothing():
    transcript = told(BOTH)
    assert transcript.record(Emission(Stage.STOP, ""))
    transcript.interject("make it purple")
    transcript.record(Emission(Stage.SKETCH, draw(CIRCLE, SQUARE)))
    assert [entry.source for entry in transcript.emissions] == ["policy", "policy", CRITIC, "policy"]
    score = judge(transcript)
    assert score.steps == ({"plan": 1}, {}, {}, {"sketch": 1}) and score.total == 1


def test_a_given_canvas_is_where_the_first_plan_begins():
    transcript = told()
    transcript.emissions.append(Entry(stage=Stage.SKETCH, content=draw(CIRCLE), source=GIVEN, loss=False))
    transcript.record(Emission(Stage.PLAN, plan("add a blue square at the center")))
    assert judge(transcript).steps == ({}, {"plan": 1})
    transcript.record(Emission(Stage.SKETCH, draw(CIRCLE, SQUARE)))
    assert judge(transcript).steps == ({}, {"plan": 1}, {"sketch": 1})


def test_malformed_words_in_a_foreign_record_are_wrong_and_raise_nothing():
    transcript = told(BOTH, draw(CIRCLE, SQUARE))
    transcript.emissions.append(Entry(stage=Stage.INSPECT, content="<refine>never closed"))
    transcript.emissions.append(Entry(stage=Stage.PLAN, content="<des>"))
    assert judge(transcript).steps[2:] == ({"inspect": 0}, {"plan": 0})


def test_placeholders_may_contradict_until_they_are_changed():
    announced = "add a red circle at the left; as a placeholder, add a green square at the center"
    holds = plan(announced, "a red circle and a green square")
    says = "the sketch follows the plan; still missing: a blue square; still to change: a green square at the center"
    change = plan("change the green square at the center to blue")
    said = (holds, draw(CIRCLE, GREEN), says, change, draw(CIRCLE, SQUARE), DONE, "")
    assert [list(step.values()) for step in judge(told(*said)).steps] == [[1], [1], [1], [1], [1], [1], []]
    lied = told(holds, draw(CIRCLE, GREEN), DONE)
    assert judge(lied).steps[2] == {"inspect": 0.5}


def test_rewards_are_batched_and_each_image_is_looked_at_once(monkeypatch):
    looked = []
    look = detector._objects
    monkeypatch.setattr(detector, "_objects", lambda view: looked.append(1) or look(view))
    monkeypatch.setattr(detector, "_seen", detector._Memory(100))
    transcripts = [told(BOTH, draw(CIRCLE, GREEN), WRONG + FIX, draw(CIRCLE, SQUARE), "") for _ in range(5)]
    scores = SceneReward()(transcripts)
    assert scores == [scores[0]] * 5 and len(looked) == 2
    assert SceneReward()([]) == []


def test_the_reward_is_a_value():
    reward = SceneReward(outcome="strict")
    assert isinstance(reward, Reward)
    assert copy.deepcopy(reward) == reward == pickle.loads(pickle.dumps(reward))


@pytest.mark.parametrize("errors", [0.0, 0.5])
def test_the_scripted_painter_is_right_in_the_end_and_its_inspections_are_true(errors):
    rng = np.random.default_rng(2)
    habits = Habits(error_rate=errors, detour_rate=0.25)
    transcripts = [demonstrate(sample_task(rng), rng, 48, habits) for _ in range(25)]
    for score in SceneReward(outcome="strict")(transcripts):
        assert score.total == 1
        steps = [term for step in score.steps for term in step.items()]
        assert all(value == 1 for name, value in steps if name in ("plan", "inspect"))
        assert all(value > 0 for name, value in steps if name == "refine")
        assert errors or all(value == 1 for _, value in steps)
