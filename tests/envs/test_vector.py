"""Vectors of canvases: Gymnasium's own, and ours with one batched score."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from strokes.envs import CanvasVectorEnv, Score


class Batched:
    """Pays 1 for each emission and 10 at the end; remembers the sizes of its batches."""

    names = ("one",)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, transcripts):
        self.batches.append(len(transcripts))
        return [Score(total=10.0, steps=[{"one": 1.0}] * len(t.emissions)) for t in transcripts]


def random_episodes(envs, num_steps, seed=0):
    """Step a vector with random legal emissions; returns rewards, terminations and the infos."""
    envs.action_space.seed(seed)
    _, infos = envs.reset(seed=seed)
    rewards, ends, all_infos = [], [], []
    for _ in range(num_steps):
        actions = envs.action_space.sample(mask=tuple(infos["action_mask"]))
        _, reward, terminated, truncated, infos = envs.step(actions)
        assert not truncated.any() and not any(infos["error"])
        rewards.append(reward)
        ends.append(terminated)
        all_infos.append(infos)
    envs.close()
    return np.array(rewards), np.array(ends), all_infos


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_one_batched_score_pays_like_single_canvases(mode):
    reward, kwargs = Batched(), {"size": 16, "budget": 7}
    ours = random_episodes(CanvasVectorEnv(3, mode, reward=reward, **kwargs), 25)
    single = gym.make_vec(
        "strokes/Canvas-v0", 3, "sync", vector_kwargs={"autoreset_mode": mode}, reward=Batched(), **kwargs
    )
    theirs = random_episodes(single, 25)
    assert np.array_equal(ours[0], theirs[0]) and np.array_equal(ours[1], theirs[1]) and ours[1].any()
    for mine, other in zip(ours[2], theirs[2], strict=True):
        assert set(mine["reward_terms"]) == set(other["reward_terms"])
        for name in ("one", "outcome", "illegal"):
            np.testing.assert_array_equal(mine["reward_terms"][name], other["reward_terms"][name])
        if "final_info" in mine:
            finals = (mine["final_info"]["reward_terms"], other["final_info"]["reward_terms"])
            np.testing.assert_array_equal(finals[0]["outcome"], finals[1]["outcome"])
    assert len(reward.batches) == 25 and max(reward.batches) == 3


def test_make_vec_takes_the_batched_vector_by_default():
    envs = gym.make_vec("strokes/Canvas-v0", num_envs=2, size=16)
    assert isinstance(envs, CanvasVectorEnv)
    observations, _ = envs.reset(seed=[1, 2], options={"prompt": "a → 星"})
    assert observations["prompt"] == ("a → 星",) * 2 and observations["canvas"].shape == (2, 16, 16, 3)
    statistics = RecordEpisodeStatistics(envs)
    _, ends, infos = random_episodes(statistics, 40)
    assert ends.any() and any("episode" in info for info in infos)
    with pytest.raises(ValueError, match="num_envs"):
        CanvasVectorEnv(0)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_async_vectors_agree_with_sync_ones(context):
    kwargs = {"prompts": [f"prompt {k}" for k in range(9)], "size": 16, "budget": 5}
    sync = random_episodes(gym.make_vec("strokes/Canvas-v0", 2, "sync", **kwargs), 12)
    options = {"shared_memory": False, "context": context}
    parallel = random_episodes(gym.make_vec("strokes/Canvas-v0", 2, "async", vector_kwargs=options, **kwargs), 12)
    assert np.array_equal(sync[0], parallel[0]) and np.array_equal(sync[1], parallel[1])


def test_shared_memory_is_refused_rather_than_freezing_the_text():
    with pytest.raises(ValueError, match="shared_memory=False"):
        gym.make_vec("strokes/Canvas-v0", 2, "async", size=16)
