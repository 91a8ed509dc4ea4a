"""FSDP2: weights, gradients, optimizer and average in shards learn what whole ones do, and go on."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_runs import STEADY, command, logged, words

from strokes.agents.bagel import load
from strokes.sft.trainer import WHOLE

SHARED = ("packs=2", "steps=4", "save_every=2", STEADY, "evaluation={every: 2, packs: 2, heldout: 0, shown: 2}")
SCRIPT = [str(Path(__file__).with_name("sharded.py"))]


def run(data, folder, *arguments, processes=2, script=SCRIPT):
    """The command on the small data, in processes of torchrun."""
    return command(*words(data), *SHARED, *arguments, f"out={folder}", processes=processes, script=script)


def done(data, folder, *arguments, processes=2):
    """The folder of a run that came to its end."""
    found = run(data, folder, *arguments, processes=processes)
    assert found.returncode == 0, found.stderr[-3000:]
    return folder


def shipped(folder):
    return load(folder / "checkpoint", dtype=torch.float32).state_dict()


@pytest.fixture(scope="module")
def sharded(data, tmp_path_factory):
    return done(data, tmp_path_factory.mktemp("shards") / "run", "fsdp=true")


@pytest.mark.slow
def test_whole_weights_are_not_taken_for_shards(data, tmp_path):
    found = run(data, tmp_path / "run", "fsdp=true", script=["-m", "strokes.sft.train"])
    assert found.returncode != 0 and "have a GPU each, got 2 on cpu" in found.stderr


@pytest.mark.slow
def test_shards_learn_what_one_process_does(data, sharded, tmp_path):
    whole = done(data, tmp_path / "whole", processes=1)
    kept = {path.name for path in (sharded / "checkpoints" / "checkpoint-4").iterdir()}
    assert {"pytorch_model_fsdp_0", "optimizer_0", "average-0.safetensors", "average-1.safetensors"} <= kept
    parts = [load_file(sharded / "checkpoints" / "checkpoint-4" / f"average-{k}.safetensors") for k in (0, 1)]
    numbers = [sum(part.numel() for part in each.values()) for each in parts]
    assert sum(numbers) == json.loads((whole / "metrics.json").read_text())["parameters"] and min(numbers) > 0
    one, two = shipped(whole), shipped(sharded)
    assert all(torch.allclose(one[name], two[name], atol=1e-5, rtol=2**-7) for name in one), "written in bfloat16"
    for key in ("loss", "ce", "mse", "grad_norm", "eval_plan", "eval_sketch"):
        assert logged(whole, key) == pytest.approx(logged(sharded, key), abs=1e-5) and logged(whole, key), key


@pytest.mark.slow
def test_shards_go_on_from_a_checkpoint(data, sharded, tmp_path):
    half = tmp_path / "half"  # as a run leaves it that was killed after its third step
    shutil.copytree(sharded, half)
    shutil.rmtree(half / "checkpoints" / "checkpoint-4")
    shutil.rmtree(half / "checkpoint")
    (half / "metrics.json").unlink()
    done(data, half, "fsdp=true")
    one, two = shipped(sharded), shipped(half)
    assert all(torch.equal(one[name], two[name]) for name in one)
    for key in ("loss", "ce", "mse", "grad_norm"):
        assert logged(sharded, key) == logged(half, key), key


@pytest.mark.slow
def test_shards_go_on_in_as_many_processes_only(data, sharded, tmp_path):
    shutil.copytree(sharded, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    whole = tmp_path / "run" / "checkpoints" / "checkpoint-4" / WHOLE
    whole.write_text(json.dumps(json.loads(whole.read_text()) | {"processes": 4}))
    found = run(data, tmp_path / "run", "fsdp=true")
    assert found.returncode != 0 and "Expected 4 processes, for the shards in" in found.stderr


@pytest.mark.slow
def test_shards_in_half_precision_that_are_computed_again_learn_much_the_same(data, sharded, tmp_path):
    folder = done(data, tmp_path / "run", "fsdp=true", "precision=bf16", "gradient_checkpointing=true")
    exact, rounded = logged(sharded, "mse"), logged(folder, "mse")
    last = torch.tensor(rounded).view(torch.int32) & 0xFF  # bits that a mean of two bfloat16 does not have
    assert last.any(), "the loss itself is float32"
    assert exact != rounded and rounded == pytest.approx(exact, rel=0.05)
