"""The learner killed and started again; two learners, one of which has nothing to learn images from."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file
from small import SMALL

pytestmark = pytest.mark.slow


def _command(out: Path, *overrides: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "strokes.rl.train",
        *SMALL,
        "steps=6",
        "save_every=1",
        "keep=9",
        *overrides,
        f"out={out}",
    ]


def _run(out: Path, *overrides: str) -> None:
    done = subprocess.run(_command(out, *overrides), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def _adapter(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter" / "adapter_model.safetensors")


def _wait_for(path: Path, process: subprocess.Popen[bytes], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end, f"no {path} after {seconds} s"
        time.sleep(0.02)


@pytest.mark.parametrize("rollout", [["rollout.kind=local"], ["rollout.kind=ray", "rollout.workers=1"]])
def test_a_learner_killed_in_the_middle_ends_with_the_same_weights(tmp_path, rollout):
    _run(tmp_path / "whole", *rollout)
    with subprocess.Popen(_command(tmp_path / "killed", *rollout), start_new_session=True) as process:
        _wait_for(tmp_path / "killed" / "checkpoints" / "checkpoint-2" / "rollouts-0" / "state.json", process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _run(tmp_path / "killed", *rollout)
    whole, again = _adapter(tmp_path / "whole"), _adapter(tmp_path / "killed")
    assert whole.keys() == again.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name]), name


def test_a_learner_asked_to_stop_saves_and_goes_on_to_the_same_weights(tmp_path):
    _run(tmp_path / "whole", "save_every=100")
    with subprocess.Popen(_command(tmp_path / "asked", "save_every=100")) as process:
        _wait_for(tmp_path / "asked" / "log.jsonl", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=240) == 143
    _run(tmp_path / "asked", "save_every=100")
    for name, tensor in _adapter(tmp_path / "whole").items():
        assert torch.equal(tensor, _adapter(tmp_path / "asked")[name]), name


def _learn(rank: int, out: str, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    import threading

    sys.path.insert(0, str(Path(__file__).parent))
    from small import settings

    from strokes.rl.train import make_trainer

    # One image at most for the first process: its policy is cut before it has said what to draw.
    words = "policy.max_tokens=1" if rank == 0 else "policy.max_tokens=384"
    trainer = make_trainer(settings("micro_batch=1", words, out=out), Path(out), threading.Event())
    trainer.train()
    images = [line["images_per_drawing"] for line in trainer.state.log_history if "images_per_drawing" in line]
    learnt = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    torch.save({"learnt": learnt, "images": images}, f"{out}/{rank}.pt")


def test_two_processes_learn_the_same_though_one_has_no_image(tmp_path, unused_tcp_port):
    mp.spawn(_learn, (str(tmp_path), unused_tcp_port), nprocs=2, join=True)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["images"] == [0.0, 0.0] and max(second["images"]) > 0
    for name, tensor in first["learnt"].items():
        assert torch.equal(tensor, second["learnt"][name]), name


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
