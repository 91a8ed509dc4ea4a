"""CanvasEnv: the contract with Gymnasium, the pay, the ends."""

import math
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordEpisodeStatistics

from strokes.envs import CanvasEnv, Emission, Ending, InvalidContent, Score, Stage, load_transcripts
from strokes.envs.archive import append_transcript


class Counting:
    """A reward with every kind of verdict: a number, None, and the outcome."""

    names = ("said", "unknown", "final")

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, transcripts):
        self.calls += 1
        return [
            Score(
                total=10.0 if t.ended else None,
                terms={"final": 5.0},
                steps=[{"said": 1.0, "unknown": None} for _ in t.emissions],
            )
            for t in transcripts
        ]


def play(env, emissions):
    results = []
    for emission in emissions:
        results.append(env.step(emission))
    return results


@pytest.mark.parametrize("id", ["strokes/Canvas-v0", "strokes/Scenes-v0"])
def test_check_env_passes_without_a_warning(id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(3):
            env = gym.make(id, size=16).unwrapped
            env.action_space.seed(seed)
            check_env(env)


def test_a_reward_without_verdicts_passes_check_env_too():
    env = CanvasEnv(reward=Counting(), size=16)
    env.spec = gym.spec("strokes/Canvas-v0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)


def test_the_spec_survives_json_and_pickle():
    spec = gym.make("strokes/Scenes-v0", size=32, budget=9, render_mode="ansi").spec
    for twin in (gym.envs.registration.EnvSpec.from_json(spec.to_json()), pickle.loads(pickle.dumps(spec))):
        env = gym.make(twin)
        assert env.unwrapped.budget == 9 and env.unwrapped.size == 32 and env.unwrapped.render_mode == "ansi"


def test_an_env_survives_pickle_in_mid_episode(script):
    env = gym.make("strokes/Canvas-v0").unwrapped
    env.reset(seed=1)
    play(env, script[:3])
    twin = pickle.loads(pickle.dumps(env))
    assert twin.transcript == env.transcript
    assert twin.step(script[3])[1] == env.step(script[3])[1] and twin.transcript == env.transcript


def test_the_observation_tells_what_was_said_drawn_and_left(script):
    env = CanvasEnv(budget=10)
    obs, info = env.reset(seed=0, options={"prompt": "a red circle"})
    assert obs["prompt"] == "a red circle" and obs["text"] == "" and obs["stage"] == -1 and obs["left"] == 10
    assert (obs["canvas"] == 255).all() and info["action_mask"].tolist() == [1, 0, 0, 0, 0] and info["error"] == ""
    results = play(env, script)
    obs, _, terminated, truncated, info = results[3]
    assert obs["text"] == script[2].content and obs["left"] == 6 and obs["stage"] == Stage.REFINE
    assert np.array_equal(obs["canvas"], script[3].content) and obs in env.observation_space
    assert (terminated, truncated) == (False, False) and info["action_mask"].tolist() == [1, 0, 0, 0, 1]
    assert results[-1][2] is True and results[-1][3] is False and not results[-1][4]["action_mask"].any()
    assert env.transcript.ended is Ending.STOP
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(script[0])


def test_observations_share_nothing_with_the_record(script):
    env = CanvasEnv()
    env.reset(seed=0)
    obs = play(env, script[:2])[-1][0]
    obs["canvas"][:] = 0
    assert env.transcript.canvas.any()


def test_illegal_emissions_cost_budget_and_say_why(script):
    env = CanvasEnv(budget=3, penalty=0.25)
    env.reset(seed=0)
    obs, reward, terminated, _, info = env.step(script[1])
    assert info["error"] == "Expected PLAN after the prompt, got SKETCH." and reward == -0.25
    assert info["reward_terms"]["illegal"] == -0.25 and obs["left"] == 2 and obs["stage"] == -1 and not terminated
    _, _, _, _, info = env.step(Emission(Stage.PLAN, "no tags"))
    assert "Expected '<ins>" in info["error"]
    obs, _, terminated, truncated, _ = env.step(Emission(Stage.PLAN, "x" * 5000))
    assert terminated and not truncated and obs["left"] == 0 and env.transcript.ended is Ending.BUDGET


def test_wrong_images_are_refused_with_a_remedy(script):
    env = CanvasEnv()
    env.reset(seed=0)
    env.step(script[0])
    for bad, remedy in [(script[1].content / 255, "astype"), (script[1].content[:24], "size"), ([1], "NumPy")]:
        with pytest.raises(InvalidContent, match=remedy):
            env.step(Emission(Stage.SKETCH, bad))
    assert env.transcript.spent == 1


def test_each_emission_is_paid_and_the_outcome_at_the_end(script):
    reward = Counting()
    env = CanvasEnv(reward=reward)
    _, info = env.reset(seed=0)
    keys = {"outcome", "illegal", "process", "said", "unknown", "final"}
    assert set(info["reward_terms"]) == keys and all(math.isnan(v) for v in info["reward_terms"].values())
    results = play(env, [script[1], *script])
    assert [r[1] for r in results] == pytest.approx([0.9] + [1.0] * 7 + [11.0])
    assert all(set(r[4]["reward_terms"]) == keys for r in results) and reward.calls == len(results)
    assert all(isinstance(v, float) for r in results for v in r[4]["reward_terms"].values())
    last = results[-1][4]["reward_terms"]
    assert (last["outcome"], last["said"], last["final"]) == (10.0, 1.0, 5.0) and math.isnan(last["unknown"])
    assert (last["process"], results[0][4]["reward_terms"]["illegal"]) == (1.0, -0.1)
    assert math.isnan(results[0][4]["reward_terms"]["outcome"])
    assert env.transcript.score == 10.0 and env.transcript.emissions[-1].terms["final"] == 5.0


def test_a_plain_function_is_a_reward(script):
    env = CanvasEnv(
        reward=lambda transcripts: [Score(total=None, steps=[{"n": 2.0}] * len(t.emissions)) for t in transcripts]
    )
    env.reset(seed=0)
    assert [r[1] for r in play(env, script)] == [2.0] * 8 and env.transcript.score is None


def test_what_a_score_says_an_emission_earns_is_paid_instead_of_its_terms(script):
    def reward(transcripts):
        return [
            Score(total=None, steps=[{"process": 7.0}] * len(t.emissions), pay=[0.25] * len(t.emissions))
            for t in transcripts
        ]

    env = CanvasEnv(reward=reward)
    env.reset(seed=0)
    results = play(env, script)
    assert [r[1] for r in results] == [0.25] * 8 and results[0][4]["reward_terms"]["process"] == 0.25
    assert env.transcript.emissions[0].terms == {"process": 7.0, "earned": 0.25}


def test_deferred_scoring_pays_nothing(script):
    reward = Counting()
    env = CanvasEnv(reward=reward, scoring="deferred")
    env.reset(seed=0)
    results = play(env, [script[1], *script])
    assert all(r[1] == 0.0 for r in results) and reward.calls == 0 and results[0][4]["error"]
    assert all(math.isnan(v) for v in results[-1][4]["reward_terms"].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": ""}, "what to draw"),
        ({"prompt": " \n"}, "what to draw"),
        ({"prompt": 3}, "what to draw"),
        ({"prompt": "x" * 4097}, "at most 4096 characters, got 4097"),
        ({"promt": "x"}, "options among prompt"),
        ({"prompt": "x", "meta": ["include"]}, "a mapping"),
        ({"transcript": "run/transcript.jsonl"}, "a Transcript"),
        ({"prompt": "x", "canvas": np.zeros((8, 8, 3), np.uint8)}, "shape"),
    ],
)
def test_bad_options_are_refused_at_reset(options, message):
    with pytest.raises(ValueError, match=message):
        CanvasEnv().reset(seed=0, options=options)


@pytest.mark.parametrize(
    "kwargs",
    [{"size": 40}, {"size": 0}, {"budget": 1}, {"scoring": "x"}, {"render_mode": "human"}, {"reward": "nowhere"}],
)
def test_bad_arguments_are_refused(kwargs):
    with pytest.raises(ValueError, match="Expected"):
        CanvasEnv(**kwargs)


def test_a_given_canvas_is_where_the_drawing_begins(script, tmp_path):
    env = CanvasEnv()
    obs, info = env.reset(options={"prompt": "x", "canvas": script[1].content})
    assert np.array_equal(obs["canvas"], script[1].content) and obs["stage"] == -1 and obs["left"] == env.budget
    assert info["action_mask"].tolist() == [1, 0, 0, 0, 0] and env.transcript.images == []
    append_transcript(env.transcript, tmp_path / "t.jsonl")
    (loaded,) = load_transcripts(tmp_path / "t.jsonl")
    assert loaded.emissions[0].source == "given"
    other = loaded.edit(0, script[3].content)
    assert env.reset(options={"transcript": other})[0]["stage"] == -1
    assert np.array_equal(env.transcript.canvas, script[3].content) and other.emissions[0].source == "given"


def test_a_saved_transcript_is_cut_and_continued(transcript, script, tmp_path):
    append_transcript(transcript, tmp_path / "t.jsonl")
    (loaded,) = load_transcripts(tmp_path / "t.jsonl")
    env = CanvasEnv(budget=12)
    with pytest.raises(ValueError, match="cut it"):
        env.reset(options={"transcript": loaded})
    obs, info = env.reset(options={"transcript": loaded.cut(5)})
    assert obs["left"] == 7 and obs["stage"] == Stage.REFINE and obs["text"] == script[2].content
    assert info["action_mask"].tolist() == [1, 0, 0, 0, 1]
    play(env, script[4:])
    assert env.transcript.ended is Ending.STOP and env.transcript.prompt == transcript.prompt
    assert env.transcript.emissions[5:] == transcript.emissions[5:] and len(loaded.emissions) == 9
    for bad, message in [
        ({"transcript": loaded.cut(2), "prompt": "x"}, "alone"),
        ({"transcript": loaded.cut(4)}, "raise `budget`"),
    ]:
        with pytest.raises(ValueError, match=message):
            CanvasEnv(budget=4).reset(options=bad)
    with pytest.raises(ValueError, match="size 64, got 48"):
        CanvasEnv(size=64).reset(options={"transcript": loaded.cut(2)})


def test_words_from_outside_are_shown_and_free_of_charge(script):
    env = CanvasEnv()
    env.reset(seed=0)
    play(env, script[:2])
    before = env.observe()
    env.interject("Please <refine>move it</refine>")
    after = env.observe()
    assert after["left"] == before["left"] and after["stage"] == before["stage"]
    assert "move it" in after["text"] and "<refine>" not in after["text"]


def test_rendering_has_a_constant_size_and_no_escapes_of_the_model(script):
    env = gym.make("strokes/Canvas-v0", render_mode="rgb_array")
    env.reset(seed=0, options={"prompt": "une étoile → 星 🎨 " * 20})
    frames = [env.render()]
    for emission in script:
        env.step(emission)
        frames.append(env.render())
    assert len({frame.shape for frame in frames}) == 1 and frames[0].dtype == np.uint8
    assert not np.array_equal(frames[0], frames[-1])
    env = CanvasEnv(render_mode="ansi")
    env.reset(seed=0)
    env.step(Emission(Stage.PLAN, "<ins>a\x1b[31m\x1b]0;title\x07b\x9b2J</ins><des>c\x00\u202e</des>"))
    assert "<ins>ab</ins><des>c</des>" in env.render()


def test_same_seed_same_prompt_and_episode_statistics(script):
    env = RecordEpisodeStatistics(gym.make("strokes/Canvas-v0", prompts=[f"prompt {k}" for k in range(50)]))
    prompts = [env.reset(seed=seed)[0]["prompt"] for seed in (5, 5, 6, 7)]
    assert prompts[0] == prompts[1] and len(set(prompts)) > 1
    *_, info = play(env, script)[-1]
    assert info["episode"]["l"] == 8
