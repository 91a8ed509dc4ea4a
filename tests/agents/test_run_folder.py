"""The folder of a training run."""

import json
import os
import signal

import pytest

from strokes.agents.run_folder import RunFolder, stop_requests
from strokes.envs.files import replacing

SETTINGS = {"out": "a", "lr": 0.1, "betas": [0.9, 0.95], "mixture": {"draw": {"num": 3}, "plan": {"num": 1}}}


def test_a_run_with_other_settings_is_refused_and_the_keys_are_named(tmp_path):
    RunFolder(tmp_path, {"lr": 7.0})  # never begun
    RunFolder(tmp_path, SETTINGS, {"out"}).begin()
    RunFolder(tmp_path, SETTINGS | {"out": "b"}, {"out"}).begin()
    changed = SETTINGS | {"lr": 0.2, "mixture": {"draw": {"num": 4}}}
    with pytest.raises(
        ValueError, match=r"got lr=0\.2 \(there 0\.1\), mixture\.draw\.num=4 \(there 3\), mixture\.plan"
    ):
        RunFolder(tmp_path, changed, {"out"})
    with pytest.raises(ValueError, match=r"seed=1 \(there None\)"):
        RunFolder(tmp_path, SETTINGS | {"seed": 1}, {"out"})
    assert json.loads((tmp_path / "run.json").read_text()) == SETTINGS | {"out": "b"}, "refused runs leave no trace"


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "new" / "file"
    for text in ("one", "two"):
        with replacing(path) as partial:
            partial.write_text(text)
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "two"


def test_the_log_goes_back_to_the_state(tmp_path):
    folder = RunFolder(tmp_path, SETTINGS)
    folder.begin()
    assert folder.load_state() is None and folder.metrics is None
    for step in (1, 2, 3):
        folder.log(step=step, loss=1 / step)
        if step == 2:
            folder.save_state(step=step)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "lo')  # a kill in the middle of a line
    assert RunFolder(tmp_path, SETTINGS).load_state() == {"step": 2}
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2]
    folder.finish({"step": 2})
    assert folder.metrics == {"step": 2}


@pytest.fixture
def interruptible():
    """Ctrl-C as at a terminal: what runs in the background inherits that it is ignored."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


def test_one_signal_asks_and_a_second_one_acts(interruptible):
    before = signal.getsignal(signal.SIGINT)
    with stop_requests() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
