"""What a rollout buffer gives back is what was put into it, bit for bit; and what is no buffer is refused."""

import json
import math
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from strokes.agents.bagel.checkpoint import load
from strokes.agents.bagel.noise import Noise
from strokes.agents.load import load_policy
from strokes.agents.rollout import Rules, chunks, rollout
from strokes.agents.trajectory import Trajectory
from strokes.envs.protocols import Cost, Reply, Score, Transition
from strokes.envs.stages import Emission, Stage
from strokes.envs.transcript import Transcript
from strokes.rewards.scenes import SceneReward
from strokes.rl.buffer import load_buffer, save_buffer
from strokes.rl.loss import Steps
from strokes.rl.sync import Receiver, collect

NANO = Path(__file__).parents[2] / "agents" / "bagel" / "weights" / "nano-v2"
POLICY = {"name": "bagel-tiny", "path": str(NANO), "device": "cpu", "dtype": "float32", "temperature": 1.0}
SAMPLING = {"timestep_shift": 1.0, "cfg_interval": [0.0, 1.0], "cfg_renorm_min": 1.0}
POSITION = {"global_step": 3, "micro_step": 7, "generation": 2, "fresh_until": -1, "behaviour": None}


def bits(value):
    """Nested values down to what can be compared; floats and arrays by their bytes."""
    if isinstance(value, torch.Tensor):
        return ("tensor", *bits(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()), value.shape)
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, list | tuple):
        return [bits(each) for each in value]
    if isinstance(value, dict):
        return {key: bits(each) for key, each in value.items()}
    if is_dataclass(value):
        return {f.name: bits(getattr(value, f.name)) for f in fields(value)}
    return value.hex() if isinstance(value, float) else value


def round_trip(folder, batches, admitted=()):
    save_buffer(folder, POSITION, batches, admitted)
    buffer = load_buffer(folder)
    return buffer.position, buffer.batches, buffer.admitted


def made_by_hand():
    """Everything that a trajectory can hold at once."""
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 256, (2, 3, 3, 3), np.uint8)
    transcript = Transcript(prompt="ein Kreis\n☉", size=3, id="0-0-0-1", seed=0, meta={"tag": "x", "include": []})
    transcript.give(canvas[0])
    transcript.record(Emission(Stage.STOP, ""))
    transcript.record(Emission(Stage.PLAN, "<ins>Draw.</ins><des>A circle.</des>"))
    transcript.record(Emission(Stage.SKETCH, canvas[1]))
    transcript.interject("<refine>more</refine>")
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    own = [Emission(entry.stage, entry.content) for entry in transcript.emissions]
    words = {"tokens": (5, 6), "logps": (-0.1, -1e-300), "allowed": ((1, 5), None), "temperature": 0.7}
    step = Transition(x, x.flip(0), 1.0, 2 / 3, 0.8, -123456.789012345)
    picture = {"path": (step, step._replace(eta=0.0, logp=0.0)), "latent": x.T, "cost": Cost(nfe=3, seconds=0.1 + 0.2)}
    replies = [None, Reply(emission=own[1]), Reply(emission=own[2], source="human", **words)]
    terms = [{}, {"plan": None}, {"plan": 1 / 3}, {"sketch": 0.0}, {}]
    score = Score(total=None, terms={"strict": None, "soft": 0.1}, steps=terms, pay=(0.0, -0.5, 1 / 3, 0.0, 0.0))
    transcript.grade(score)
    return Trajectory(
        transcript=transcript,
        seed=(0, 0, 0, 1),
        replies=[*replies, Reply(emission=own[3], **picture), None],
        score=score,
        progress=[None, None, None, 0.1, 0.1],
    )


@pytest.fixture(scope="module")
def weights():
    return collect(load(NANO).requires_grad_(True), 4)


@pytest.fixture(scope="module")
def drawn():
    noisy = {"steps": 4, "guidance": 2.0, "noise": Noise(), "is_recorded": True}
    policy = load_policy({**POLICY, "max_tokens": 64, "sampling": SAMPLING}, **noisy)
    (chunk,) = chunks(["a photo of a circle", "a photo of two stars"], seed=5, num_members=2)
    rules = Rules(size=48, budget=3)
    return rollout(policy, chunk, rules=rules, score_fn=SceneReward(), is_graded_throughout=True)


def test_trajectories_by_hand_come_back(tmp_path):
    trajectories = [made_by_hand(), Trajectory(transcript=Transcript(prompt="", size=8))]
    position, batches, admitted = round_trip(tmp_path, [{"trajectories": trajectories}])
    assert bits(batches) == bits([{"trajectories": trajectories}])
    assert (position, admitted) == (POSITION, [])
    (found, empty), given = batches[0]["trajectories"], trajectories[0]
    assert found.transcript == given.transcript and found.cost == given.cost and empty.score is None
    assert found.replies[2] == given.replies[2] and type(found.replies[2].allowed[0]) is tuple
    assert found.transcript.images[0].flags.writeable and found.score.earned(2) == 1 / 3
    assert type(found.replies[3].path[0]) is Transition and type(found.transcript.emissions[1].stage) is Stage


def test_drawn_trajectories_with_credits_and_flow_steps_come_back(drawn, tmp_path):
    paths = [reply.path for t in drawn for _, _, reply in t.own() if reply.path]
    assert paths and any(t.transcript.images for t in drawn)
    generator = torch.Generator().manual_seed(1)
    flow = [Steps(torch.randn(2, dtype=torch.float64), *torch.randn(3, 2, 4, 8, generator=generator)) for _ in drawn]
    batch = {
        "completion_ids": torch.arange(6).reshape(2, 3),
        "completion_mask": torch.tensor([[True, False]]),
        "advantages": torch.randn(3, 2, generator=generator).T,
        "num_flow_steps": torch.tensor(4.0),
        "half": torch.randn(3, generator=generator).bfloat16(),
        "trajectories": drawn,
        "credits": [np.linspace(0, 1, len(t.replies), dtype=np.float32) for t in drawn],
        "old_steps": flow,
    }
    _, (first, second), _ = round_trip(tmp_path, [batch, {**batch, "trajectories": drawn[:1]}])
    assert bits(first) == bits(batch) and bits(second["trajectories"]) == bits(drawn[:1])
    assert all(isinstance(each, Steps) for each in first["old_steps"])
    assert {key: first[key].dtype for key in ("half", "completion_mask")} == {
        "half": torch.bfloat16,
        "completion_mask": torch.bool,
    }


def test_verdicts_that_are_not_numbers_stay_what_they_are(tmp_path):
    odd = made_by_hand()
    odd.transcript.score, odd.progress = None, [math.nan, math.inf, -0.0, None, 5e-324]
    _, (batch,), _ = round_trip(tmp_path, [{"trajectories": [odd]}])
    assert bits(batch["trajectories"][0].progress) == bits(odd.progress)


def test_admitted_weights_come_back_and_are_accepted(weights, tmp_path):
    _, batches, admitted = round_trip(tmp_path, None, [(4, weights), (5, weights)])
    assert batches is None and [number for number, _ in admitted] == [4, 5]
    assert bits(admitted[0][1]) == bits(weights)
    assert Receiver(load(NANO)).install(admitted[1][1]) == 4


def test_what_is_kept_is_a_copy(tmp_path):
    kept = torch.zeros(3)
    _, (batch,), _ = round_trip(tmp_path, [{"a": kept, "b": kept[1:]}])
    batch["a"] += 1
    assert kept.sum() == 0 == batch["b"].sum()


def test_a_buffer_takes_the_place_of_the_one_before(tmp_path):
    round_trip(tmp_path, [{"a": torch.ones(2)}, {"a": torch.ones(3)}])
    _, batches, _ = round_trip(tmp_path, [])
    assert batches == [] and sorted(path.name for path in tmp_path.iterdir()) == ["state.json", "tensors.safetensors"]


def test_a_batch_of_something_else_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="in a batch, got 'texts'"):
        save_buffer(tmp_path / "new", POSITION, [{"texts": ["a"]}], [])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("lost", ["", "state.json", "tensors.safetensors"])
def test_a_folder_without_a_whole_buffer_is_named(tmp_path, lost):
    folder = tmp_path / "rollouts-0"
    if lost:
        round_trip(folder, [{"a": torch.ones(2)}])
        (folder / lost).unlink()
    with pytest.raises(ValueError, match=r"a rollout buffer in '.*rollouts-0'.* resume from another checkpoint"):
        load_buffer(folder)


@pytest.mark.parametrize("left", [0, 4, 20, -1])
def test_cut_tensors_are_refused_with_their_folder(tmp_path, left):
    round_trip(tmp_path, [{"a": torch.ones(64)}])
    path = tmp_path / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=f"a rollout buffer in '{tmp_path}'"):
        load_buffer(tmp_path)


def test_a_cut_state_is_refused_with_its_folder(tmp_path):
    round_trip(tmp_path, [{"a": torch.ones(2)}])
    state = tmp_path / "state.json"
    state.write_text(state.read_text()[:-9])
    with pytest.raises(ValueError, match=f"a rollout buffer in '{tmp_path}'"):
        load_buffer(tmp_path)


@pytest.mark.parametrize("other", [{"version": 2}, {"format": "strokes/transcript"}, {"version": None}])
def test_another_version_or_format_is_refused_with_its_folder(tmp_path, other):
    round_trip(tmp_path, [])
    state = tmp_path / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | other))
    with pytest.raises(ValueError, match=f"strokes/rollouts version 1 in '{tmp_path}', got .* that wrote it"):
        load_buffer(tmp_path)
