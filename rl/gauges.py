"""Gauges: what a learning run says about itself, and the alarm when replay leaves rollout.

The drift of replay is the one number that tells whether policy gradients are those of the policy that drew: published
runs were spoilt for weeks by a dropped guidance branch or a schedule that was one step off, with falling losses all
along.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from accelerate import Accelerator

from ..agents.replay import Replayed, drift
from ..agents.trajectory import Trajectory

ALARM = {"text": 5e-4, "flow": 1e-3}
"""Nats per token, and per stochastic step (summed over its dimensions), beyond which replay and rollout do not compute
the same. In float32 they agree to 5e-5 and 1e-4 (tests/agents/test_replay.py); faults are ten alarms or more."""
BF16 = 100.0
"""By how much the alarm is wider in bfloat16, which has 16 bits less. Not measured here: set from the noise floors of
published runs, 2e-5 to 6e-5 per dimension without guidance (verl-omni #279)."""


class Gauges:
    """Readings of one process; where processes differ, all of them take part in each collective."""

    def __init__(self, accelerator: Accelerator, note: Callable[[str, float], None], dtype: torch.dtype) -> None:
        """Args:

        accelerator: Of the trainer.
        note: Takes a name and a value; means over a logging interval are the trainer's business.
        dtype: Of the model: what noise is to be expected.
        """
        self.accelerator, self.note = accelerator, note
        self.allowed = {kind: limit * (BF16 if dtype == torch.bfloat16 else 1) for kind, limit in ALARM.items()}

    def drawings(self, drawn: Sequence[Trajectory], stats: Mapping[str, float]) -> None:
        """How a generation came out, and what its rollouts went through."""
        entries = [entry for trajectory in drawn for entry in trajectory.transcript.emissions]
        self.note("images_per_drawing", float(np.mean([len(t.transcript.images) for t in drawn])))
        self.note("stopped", float(np.mean([str(t.transcript.ended) == "stop" for t in drawn])))
        self.note("illegal", float(np.mean([bool(entry.error) for entry in entries])))
        self.note("sampling_steps", float(np.mean([t.cost.steps for t in drawn])))
        scores = [trajectory.score for trajectory in drawn if trajectory.score is not None]
        self._means("outcome", [score.terms for score in scores])
        self._means("stage", [terms for score in scores for terms in score.steps])
        self.note("judge/calls", float(sum(score.cost.calls for score in scores)))
        self.note("judge/tokens", float(sum(score.cost.remote_tokens for score in scores)))
        for name, value in stats.items():
            self.note(f"rollout/{name}", value)

    def _means(self, kind: str, terms: Sequence[Mapping[str, float | None]]) -> None:
        """Mean of every named term over those that have a verdict on it."""
        for name in sorted({name for each in terms for name in each}):
            known = [value for each in terms if (value := each.get(name)) is not None]
            self.note(f"{kind}/{name}", float(np.mean(known)) if known else float("nan"))

    def flow(self, metrics: Mapping[str, float], num_steps: int) -> None:
        """Means over all processes, weighted by their numbers of steps; the same collective whatever a batch holds."""
        values = [num_steps * value for value in metrics.values()]
        sums = torch.tensor([*values, float(num_steps)], device=self.accelerator.device)
        *totals, count = self.accelerator.reduce(sums, reduction="sum").tolist()
        for name, total in zip(metrics, totals, strict=True):
            self.note(f"flow/{name}", total / count if count else float("nan"))

    def drift(self, trajectories: Sequence[Trajectory], replayed: Sequence[Replayed]) -> None:
        """How far a replay at the behaviour weights is from the rollout; prints where it is too far."""
        found = drift(trajectories, replayed)
        mine = torch.tensor([[found.text_max, found.flow_max]], device=self.accelerator.device)
        for kind, largest in zip(("text", "flow"), self.accelerator.gather(mine).amax(0).tolist(), strict=True):
            self.note(f"drift/{kind}_max", largest)
            self.note(f"drift/{kind}_alarm", largest > self.allowed[kind])
            if largest > self.allowed[kind]:
                print(
                    f"drift alarm: before any update, replay and rollout differ by {largest:.2g} nats ({kind}, allowed "
                    f"{self.allowed[kind]:.2g}) (here at most at {found.worst}): they do not compute the same thing.",
                    flush=True,
                )
