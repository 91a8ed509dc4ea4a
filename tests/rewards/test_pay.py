"""What emissions earn on the mini-world: nothing that drawing more than needed could gather."""

import gymnasium as gym
import numpy as np
import pytest

from strokes.agents.random_legal import RandomLegal
from strokes.agents.scripted import TEACHING, ScriptedPainter
from strokes.envs import Emission, Stage, Transcript
from strokes.envs.scenes.render import Object, Scene, render
from strokes.rewards import SceneReward

PROMPT = "a red circle left of a blue square"
CIRCLE = Object("circle", "red", 8, 24, 6)
SQUARE, GREEN = (Object("square", color, 24, 24, 6) for color in ("blue", "green"))
STAR = Object("star", "pink", 40, 40, 6)


def canvas(*objects: Object) -> np.ndarray:
    return render(Scene(objects, 48))


def plan(ins: str, des: str = "a red circle and a blue square") -> str:
    return f"<ins>{ins}</ins><des>{des}</des>"


BOTH = plan("add a red circle at the left and a blue square at the center")
DONE = "the sketch follows the plan and the prompt is complete"
WRONG = "the sketch shows a green square at the center instead of a blue square"
FIX = "<refine>change the green square at the center to blue</refine>"


def drawn(*said: str | np.ndarray, prompt: str = PROMPT) -> tuple[list[float], float]:
    """What each emission earned, in units of ``SceneReward.process``, and the return of the episode."""
    env = gym.make("strokes/Scenes-v0")
    _, info = env.reset(options={"prompt": prompt})
    earned, total = [], 0.0
    for content in said:
        image, ending = isinstance(content, np.ndarray), isinstance(content, str) and not content
        options = [s for s in Stage if info["action_mask"][s] and s.is_image == image and (s is Stage.STOP) == ending]
        starts_plan = not image and content.startswith("<ins>")
        (stage,) = [s for s in options if len(options) == 1 or (s is Stage.PLAN) == starts_plan]
        _, reward, _, _, info = env.step(Emission(stage, content))
        assert not info["error"]
        earned.append(info["reward_terms"]["process"] * 32)
        total += reward
    return earned, total


def test_emissions_earn_their_shortfall_and_a_repair_makes_good_what_the_sketch_lost():
    assert drawn(BOTH, canvas(CIRCLE, SQUARE), DONE, "") == ([0, 0, 0, 0], 1)
    repaired = (BOTH, canvas(CIRCLE, GREEN), WRONG + FIX, canvas(CIRCLE, SQUARE), "")
    assert drawn(*repaired) == ([0, -0.5, 0, 0.5, 0], 1)
    assert drawn(BOTH, canvas(CIRCLE, GREEN), DONE)[0] == [0, -0.5, -1]
    assert drawn(BOTH, canvas(CIRCLE), DONE, prompt="a harbour at dusk") == ([0, 0, 0], 0)
    with pytest.raises(ValueError, match="process"):
        SceneReward(process=-1)


def test_what_an_emission_earned_stands_beside_its_terms_in_the_record():
    transcript = Transcript(prompt=PROMPT, size=48)
    transcript.record(Emission(Stage.PLAN, BOTH))
    transcript.record(Emission(Stage.SKETCH, canvas(CIRCLE, GREEN)))
    transcript.grade(SceneReward()([transcript])[0])
    assert transcript.emissions[0].terms == {"plan": 1, "earned": 0}
    assert transcript.emissions[1].terms["earned"] == -0.5 / 32


def test_what_a_meaningless_plan_leaves_without_a_verdict_is_no_way_out():
    assert drawn(plan("paint", "art"), canvas(CIRCLE), "hm")[0] == [-1, -1, -1]


def test_busywork_earns_nothing():
    """A placeholder that comes and goes: every emission of it is faultless, and no round pays."""
    busy = [
        plan("as a placeholder, add a pink star at the bottom right", "a red circle, a blue square and a pink star"),
        canvas(CIRCLE, SQUARE, STAR),
        "the sketch follows the plan; still to change: a pink star at the bottom right",
        plan("remove the pink star at the bottom right"),
        canvas(CIRCLE, SQUARE),
        DONE,
    ]
    for rounds in (0, 1, 4):
        earned, total = drawn(BOTH, canvas(CIRCLE, SQUARE), DONE, *busy * rounds, "")
        assert earned == [0] * (4 + 6 * rounds) and total == 1


def test_redrawing_after_an_idle_plan_earns_nothing():
    idle, asks = plan("redraw the red circle at the left"), "hm<refine>redraw the blue square at the center</refine>"
    begun = (BOTH, canvas(CIRCLE, SQUARE), DONE)
    assert drawn(*begun, idle, canvas(), asks, canvas(CIRCLE, SQUARE))[0] == [0, 0, 0, -1, -1, -1, 0]


def test_no_way_of_drawing_earns_more_than_nothing_and_none_loses_more_than_one():
    rng = np.random.default_rng(5)
    for seed in range(12):
        env = gym.make("strokes/Scenes-v0", inspect_refined=bool(seed % 2))
        _, info = env.reset(seed=seed)
        policies = RandomLegal(), ScriptedPainter(TEACHING)
        sessions = [each.start(env.unwrapped.transcript, 48, (seed,)) for each in policies]
        total, over = 0.0, False
        while not over:
            k = int(rng.integers(2))
            (reply,) = policies[k].act([sessions[k]], [info["action_mask"]])
            *_, over, _, info = env.step(reply.emission)
            total += info["reward_terms"]["process"]
        assert -1 <= total <= 1e-9
