"""The learner in processes that Ray Train starts learns what it learns elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = [
    *("policy=bagel-nano", "steps=2", "prompts=2", "group=2", "micro_batch=2", "num_steps=4", "rollout.chunk=4"),
    *("heldout.every=0", "lora.rank=4", "save_every=1"),
]


def learnt(command, out):
    """The adapter at the end of a run, as bytes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *SMALL, f"out={out}"], env=environment, cwd=out.parent, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return (out / "adapter" / "adapter_model.safetensors").read_bytes()


def test_ray_train_and_torchrun_learn_the_same_in_two_processes(tmp_path):
    ray = [sys.executable, str(ROOT / "examples" / "ray_train_learner.py"), "2"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    assert learnt(ray, tmp_path / "ray") == learnt([*torchrun, "-m", "strokes.rl.train"], tmp_path / "torchrun")


def test_learner_and_rollouts_in_one_ray_learn_what_one_process_does(tmp_path):
    ray = [
        sys.executable,
        str(ROOT / "examples" / "ray_train_learner.py"),
        "1",
        "rollout.kind=ray",
        "rollout.workers=1",
    ]
    assert learnt(ray, tmp_path / "ray") == learnt([sys.executable, "-m", "strokes.rl.train"], tmp_path / "one")
