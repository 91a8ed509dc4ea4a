"""The folder of a training run: which run it is, how far it got, what it logged; and how it is asked to stop.

    run.json      the settings it was started with; another run is refused
    state.pt      everything needed to go on
    log.jsonl     one line now and then
    metrics.json  the figures of the whole run, written last

Every file but the log replaces its predecessor only when complete.
"""

import json
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from ..envs.files import replacing, write_whole


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, and Ctrl-C once; a loop that minds it can end where nothing is lost."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals are none of its business, says Python
        yield asked
        return

    def ask(number: int, _: FrameType | None) -> None:
        asked.set()
        signal.signal(number, previous[signal.Signals(number)])

    previous = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class RunFolder:
    """One run's folder."""

    def __init__(self, path: str | Path, settings: Mapping[str, Any], free: Collection[str] = ()) -> None:
        """Look into the folder; nothing is written yet.

        Args:
            path: The folder, which need not exist.
            settings: What defines the run, JSON-ready, possibly nested.
            free: Settings that may differ when a run goes on, whole groups or dotted names.

        Raises:
            ValueError: The folder holds a run with other settings; they are named.
        """
        self.path, self.settings = Path(path), dict(settings)
        self.record = self.path / "run.json"
        if self.record.exists():
            there = json.loads(self.record.read_text())
            theirs, mine = (
                {key: value for key, value in leaves(each) if not is_free(key, free)} for each in (there, self.settings)
            )
            _check_same(self.path, theirs, mine)

    def begin(self) -> None:
        """Make the folder this run's own; called once its inputs are known to be there."""
        with replacing(self.record) as partial:
            partial.write_text(json.dumps(self.settings, indent=1) + "\n")

    @property
    def metrics(self) -> dict[str, Any] | None:
        """The figures of a run that came to its end; ``None`` before."""
        path = self.path / "metrics.json"
        return json.loads(path.read_text()) if path.exists() else None

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Mark the run as finished."""
        with replacing(self.path / "metrics.json") as partial:
            partial.write_text(json.dumps(dict(metrics), indent=1) + "\n")

    def load_state(self) -> dict[str, Any] | None:
        """What ``save_state`` wrote last, on the CPU; ``None`` if nothing was. Log lines after it are dropped."""
        path = self.path / "state.pt"
        if not path.exists():
            return None
        state = torch.load(path, weights_only=True, map_location="cpu")
        rewind(self.path / "log.jsonl", state["step"])
        return state

    def save_state(self, **state: Any) -> None:
        """Keep tensors and plain values, the number ``step`` among them."""
        with replacing(self.path / "state.pt") as partial:
            torch.save(state, partial)

    def log(self, **line: Any) -> None:
        """Append a line, the number ``step`` in it, to the log."""
        with (self.path / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def rewind(log: Path, step: int) -> None:
    """Drop the lines of a log after a step, which will be taken again, and a last line that a kill cut short."""
    if log.exists():
        lines = [line for line in log.read_text().split("\n")[:-1] if json.loads(line)["step"] <= step]
        write_whole(log, "".join(f"{line}\n" for line in lines))


def logged_seconds(log: Path) -> float:
    """Wall time of a run by its log, over all processes that had a part in it: the sum of each one's last line."""
    times = [json.loads(line)["seconds"] for line in log.read_text().splitlines()]
    return float(sum(before for before, after in pairwise([*times, -1.0]) if after < before))


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints that transformers wrote into a folder, whole or not, in the order of their steps."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[-1]))


def _check_same(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    keys = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    if keys:
        wrong = ", ".join(f"{key}={here.get(key)!r} (there {there.get(key)!r})" for key in keys)
        raise ValueError(
            f"Expected the settings of the run in {str(path)!r}, got {wrong}. Give the same settings "
            "to go on with that run, or out=… to start another."
        )


def is_free(key: str, free: Collection[str]) -> bool:
    """Whether a dotted name, or one it lies under, is among ``free``."""
    parts = key.split(".")
    return any(".".join(parts[:k]) in free for k in range(1, len(parts) + 1))


def leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings under dotted names."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
