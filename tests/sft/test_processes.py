"""The command in processes of its own: several are one, and one that is terminated goes on."""

import json
import os
import signal
import subprocess
import sys

import pytest
from safetensors.torch import load_file
from small_runs import STEADY, command, logged, words

from strokes.sft.trainer import LEARNT, WHOLE

pytestmark = pytest.mark.slow


def test_two_processes_are_one(data, tmp_path):
    shared = [*words(data), "packs=2", "steps=4", STEADY, "evaluation.every=2", "evaluation.heldout=0"]
    for name, processes in (("one", 1), ("two", 2)):
        done = command(*shared, f"out={tmp_path / name}", processes=processes)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_file(tmp_path / name / "checkpoints" / "checkpoint-4" / LEARNT) for name in ("one", "two"))
    assert max((one[name] - two[name]).abs().max() for name in one) <= 1e-5
    for key in ("ce", "mse", "grad_norm", "eval_plan", "eval_sketch"):
        found = [logged(tmp_path / name, key) for name in ("one", "two")]
        assert found[0] and found[0] == pytest.approx(found[1], abs=1e-5), key
    figures = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    assert figures[0]["tokens"] == figures[1]["tokens"]
    assert figures[0]["flops"] == pytest.approx(figures[1]["flops"], rel=1e-6)


def test_processes_with_folders_of_their_own_are_refused(data, tmp_path):
    done = command(*words(data), "packs=2", f"out={tmp_path}/${{oc.env:RANK}}", processes=2)
    assert done.returncode != 0 and "one folder for all processes" in done.stderr


def test_the_command_ends_with_143_when_it_is_terminated_and_goes_on(data, tmp_path):
    arguments = [*words(data), "steps=400", "evaluation.every=0", f"out={tmp_path / 'run'}"]
    running = subprocess.Popen(
        [sys.executable, "-m", "strokes.sft.train", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("step 3/"):
            break
    running.send_signal(signal.SIGTERM)
    rest = running.stdout.read()
    assert running.wait(60) == 143 and "the same command goes on" in rest
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert (checkpoint / WHOLE).exists() and checkpoint.name != "checkpoint-400"
