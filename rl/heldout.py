"""The held-out set, looked at now and then while learning: greedy drawings, judged exactly, always the same ones."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..agents.rollout import Episode
from ..agents.trajectory import Trajectory
from ..envs.scenes.tasks import heldout
from ..rewards.interval import OVERALL
from ..rewards.summary import summarise
from .drawings import Errand, judged

Draw = Callable[[Sequence[Episode]], Sequence[Trajectory]]
"""Draws episodes greedily with the weights of the moment."""


class HeldOut:
    """The set, and the file in which its history is kept."""

    def __init__(self, path: str | Path, *, limit: int, num_samples: int = 1, seed: int = 0) -> None:
        """Args:

        path: ``heldout.jsonl``: a line for each look.
        limit: Tasks of each kind.
        num_samples: Drawings of each task.
        seed: Decides their noise.
        """
        self.path, self.seed = Path(path), seed
        self.errands = [
            Errand(task=task, sample=sample) for task in heldout("heldout", limit) for sample in range(num_samples)
        ]

    def look(self, step: int, draw: Draw) -> dict[str, float]:
        """Draw the set, add a line to the history, and return the figures of all kinds together.

        Args:
            step: Generations learnt from so far.
            draw: See ``Draw``.
        """
        drawn = draw([errand.episode(self.seed) for errand in self.errands])
        drawings = [
            judged(errand, trajectory, chunk=0, seconds=0.0)
            for errand, trajectory in zip(self.errands, drawn, strict=True)
        ]
        rows = summarise(drawings).to_dict()["rows"]
        line = {"step": step, "rows": rows}
        kept = [each for each in self.history() if each["step"] < step]  # a run that went on from before looks again
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(json.dumps(each) + "\n" for each in [*kept, line]))
        overall = next(row for row in rows if row["task"] == OVERALL)
        return {name: _mean(overall[name]) for name in ("strict", "soft", "official", "images")}

    def history(self) -> list[dict[str, Any]]:
        """All looks so far."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []


def _mean(value: Any) -> float:
    return float(value["mean"] if isinstance(value, dict) else value)
