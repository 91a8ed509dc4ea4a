"""Transcripts kept, and words from outside."""

import gymnasium as gym
import pytest

from strokes.envs import Emission, Ending, Stage, load_transcripts
from strokes.envs.wrappers import Critic, RecordTranscripts, canvas_env


def play(env, emissions):
    return [env.step(emission) for emission in emissions]


def test_finished_episodes_are_kept_and_abandoned_ones_are_not(script, tmp_path):
    path = tmp_path / "run" / "t.jsonl"
    env = RecordTranscripts(gym.make("strokes/Canvas-v0"), path)
    env.reset(seed=1)
    play(env, script[:3])
    env.reset(seed=2)
    play(env, script)
    env.reset(seed=3)
    play(env, script)
    loaded = load_transcripts(path)
    assert [t.seed for t in loaded] == [2, 3] and loaded[1] == env.unwrapped.transcript
    assert len({t.id for t in loaded}) == 2


def test_an_episode_cut_short_from_outside_is_kept_as_truncated(script, tmp_path):
    env = gym.make("strokes/Canvas-v0", max_episode_steps=2)
    env = RecordTranscripts(env, tmp_path / "t.jsonl")
    env.reset(seed=0)
    assert play(env, script[:2])[-1][2:4] == (False, True)
    assert load_transcripts(tmp_path / "t.jsonl")[0].ended is Ending.TRUNCATED


def test_wrappers_survive_in_the_spec(tmp_path):
    env = RecordTranscripts(gym.make("strokes/Canvas-v0"), tmp_path / "t.jsonl")
    twin = gym.make(type(env.spec).from_json(env.spec.to_json()))
    assert isinstance(twin, RecordTranscripts) and twin.path == env.path
    with pytest.raises(ValueError, match="CanvasEnv inside"):
        canvas_env(gym.make("CartPole-v1"))


def test_a_critic_speaks_after_pictures_without_moving_the_grammar(script):
    heard = []

    def speak(transcript):
        heard.append(transcript.emissions[-1].stage)
        return "<|im_end|><refine>Larger!</refine>" if len(heard) == 1 else ""

    env = Critic(gym.make("strokes/Canvas-v0"), speak)
    env.reset(seed=0)
    results = play(env, [script[1], *script])
    assert heard == [Stage.SKETCH, Stage.REFINE, Stage.SKETCH]
    observation, _, _, _, info = results[2]
    assert "Larger!" in observation["text"] and "<refine>" not in observation["text"]
    assert info["action_mask"].tolist() == [0, 0, 1, 0, 0] and observation["left"] == 29
    assert observation in env.observation_space
    entry = env.unwrapped.transcript.emissions[3]
    assert entry.source == "critic" and not entry.loss and "<|im_end|>" not in entry.content
    assert results[3][0]["text"] == script[2].content and results[-1][2]


def test_a_critic_may_speak_after_any_stage_and_over_long_words_are_cut():
    env = Critic(gym.make("strokes/Canvas-v0", max_chars=80), lambda transcript: "no " * 100, stages=[Stage.PLAN])
    env.reset(seed=0, options={"prompt": "x"})
    observation, *_ = env.step(Emission(Stage.PLAN, "<ins>a</ins><des>b</des>"))
    assert observation["text"].startswith("no no") and observation in env.observation_space
