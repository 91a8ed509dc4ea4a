"""The held-out set, looked at now and then while learning: the same tasks and noise every time, judged exactly.

It is drawn greedily, as the policy is used, and on request also as it learns, at its temperature: reinforcement
learning improves what is sampled, and what is most probable only as far as that changes with it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ..agents.rollout import Episode
from ..agents.trajectory import Trajectory
from ..envs.files import write_whole
from ..envs.scenes.tasks import heldout
from ..rewards.interval import OVERALL
from ..rewards.summary import summarise
from .drawings import Errand, judged


class Draw(Protocol):
    """Draws episodes with the weights of the moment."""

    def __call__(self, episodes: Sequence[Episode], *, is_greedy: bool) -> Sequence[Trajectory]:
        """As the policy is used, or as it learns."""
        ...


class HeldOut:
    """The set, and the file in which its history is kept."""

    def __init__(
        self, path: str | Path, *, limit: int, num_samples: int = 1, seed: int = 0, is_sampled: bool = False
    ) -> None:
        """Args:

        path: ``heldout.jsonl``: a line for each look.
        limit: Tasks of each kind.
        num_samples: Drawings of each task.
        seed: Decides their noise.
        is_sampled: Whether the set is also drawn as the policy learns.
        """
        self.path, self.seed, self.is_sampled = Path(path), seed, is_sampled
        self.errands = [
            Errand(task=task, sample=sample) for task in heldout("heldout", limit) for sample in range(num_samples)
        ]

    def look(self, step: int, draw: Draw) -> dict[str, float]:
        """Draw the set, add a line to the history, and return the figures of all kinds together.

        Args:
            step: Optimizer steps so far.
            draw: See ``Draw``.
        """
        line: dict[str, Any] = {"step": step, "rows": self._rows(draw, is_greedy=True)}
        if self.is_sampled:
            line["sampled"] = self._rows(draw, is_greedy=False)
        kept = [each for each in self.history() if each["step"] < step]  # a run that went on from before looks again
        write_whole(self.path, "".join(json.dumps(each) + "\n" for each in [*kept, line]))
        sampled = _figures(line["sampled"]) if self.is_sampled else {}
        return _figures(line["rows"]) | {f"sampled_{name}": value for name, value in sampled.items()}

    def _rows(self, draw: Draw, *, is_greedy: bool) -> list[dict[str, Any]]:
        """The table of one drawing of the set."""
        drawn = draw([errand.episode(self.seed) for errand in self.errands], is_greedy=is_greedy)
        pairs = zip(self.errands, drawn, strict=True)
        return summarise([judged(*pair, chunk=0, seconds=0.0) for pair in pairs]).to_dict()["rows"]

    def history(self) -> list[dict[str, Any]]:
        """All looks so far."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []


def _figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    overall = next(row for row in rows if row["task"] == OVERALL)
    return {name: _mean(overall[name]) for name in ("strict", "soft", "official", "images")}


def _mean(value: Any) -> float:
    return float(value["mean"] if isinstance(value, dict) else value)
