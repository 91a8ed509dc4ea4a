"""The hacking monitor: does what is trained for still mean what it is meant to mean?

The training reward and a held-out reward, which nothing learns from, judge the same drawings. While the first rises and
the second falls, the policy is learning the judge instead of the task (users of Flow-GRPO met it within ten steps at
too high a learning rate).
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..agents.rollout import ScoreFn
from ..agents.trajectory import Trajectory
from ..envs.files import write_whole

WINDOW = 20
"""Generations of each half that is compared: of 64 drawings each, the mean of a share is then known to about 0.013."""
SIGNIFICANT = 2.0
"""Standard errors by which a mean has to move to count as moved: 95 % of a normal distribution."""


def is_hacked(trained: Sequence[float], held_out: Sequence[float], window: int = WINDOW) -> bool:
    """Whether the trained reward rose and the held-out one fell, each by more than its noise.

    The last ``window`` values are compared with the ``window`` values at the beginning of the run, in standard errors
    of the difference of their means; fewer than two windows say nothing.
    """
    return _change(trained, window) > SIGNIFICANT and _change(held_out, window) < -SIGNIFICANT


def _change(values: Sequence[float], window: int) -> float:
    """Last window against the first, in standard errors; 0 where there are not two yet."""
    if len(values) < 2 * window:
        return 0.0
    first, last = np.array(values[:window]), np.array(values[-window:])
    error = math.sqrt((first.var(ddof=1) + last.var(ddof=1)) / window)
    return float((last.mean() - first.mean()) / max(error, 1e-9))


class HackingMonitor:
    """Watches both rewards of every generation and keeps them in ``hacking.jsonl``."""

    def __init__(self, path: str | Path, held_out: ScoreFn, *, window: int = WINDOW) -> None:
        """Args:

        path: Where both are kept, a line for each generation, so that a run that goes on knows its beginning.
        held_out: Judges, and is never learnt from.
        window: See ``is_hacked``.
        """
        self.path, self.held_out, self.window = Path(path), held_out, window

    def on_rollouts(
        self, step: int, trajectories: Sequence[Trajectory], credits: Sequence[np.ndarray]
    ) -> Mapping[str, float]:
        """Judge a generation once more; its figures for the log."""
        scores = self.held_out([trajectory.transcript for trajectory in trajectories])
        other = [score.total for score in scores if score.total is not None]
        mine = [t.score.total for t in trajectories if t.score is not None and t.score.total is not None]
        kept = [line for line in self.history() if line["step"] < step]
        if mine and other:
            kept.append({"step": step, "trained": float(np.mean(mine)), "held_out": float(np.mean(other))})
        write_whole(self.path, "".join(f"{json.dumps(line)}\n" for line in kept))
        trained, held_out = ([line[name] for line in kept] for name in ("trained", "held_out"))
        alarm = is_hacked(trained, held_out, self.window)
        if alarm:
            print(f"hacking alarm at step {step}: the trained reward rose and the held-out one fell", flush=True)
        return {"hacking/held_out": held_out[-1] if kept else float("nan"), "hacking/alarm": float(alarm)}

    def history(self) -> list[dict[str, float]]:
        """All generations so far."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []
