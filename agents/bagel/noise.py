"""Noise of the flow: which steps of an image are stochastic, and how.

Reinforcement learning needs steps with a density. They are few: the rest of the path is the deterministic ODE, and
only the stochastic steps are stored, replayed and trained on (Flow-GRPO-Fast, MixGRPO arXiv 2507.21802).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .flow import Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which steps are stochastic."""

    kind: Literal["all", "contiguous", "scattered", "progressive"] = "contiguous"
    size: int = 2
    """Stochastic steps of an image; unused by ``all``."""
    low: int = 0
    """First step that may be stochastic."""
    high: int | None = None
    """One past the last step that may be; ``None``: all but the last one, which is never stochastic."""
    every: int = 25
    """``progressive``: steps of training after which the window moves on (MixGRPO: 25)."""
    stride: int = 1
    """``progressive``: by how many steps it then moves."""

    def steps(self, num_steps: int, seed: Sequence[int]) -> tuple[int, ...]:
        """Numbers of the stochastic steps, ascending, decided by ``seed[:3]`` = (seed, step, prompt) alone.

        Members of a group, which differ in what follows, share them: advantages compare like with like.
        """
        last = num_steps - 1
        high = min(self.high if self.high is not None else last, last)
        if self.kind == "all":
            return tuple(range(self.low, high))
        rng = np.random.default_rng(np.random.SeedSequence(tuple(seed[:3])))
        room = high - self.low - self.size
        if self.kind == "scattered":
            return tuple(sorted((self.low + rng.choice(high - self.low, self.size, replace=False)).tolist()))
        begin = (
            int(rng.integers(room + 1))
            if self.kind == "contiguous"
            else (seed[1] // self.every * self.stride) % (room + 1)
        )
        return tuple(range(self.low + begin, self.low + begin + self.size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How an image is sampled where it is to be learnt from."""

    kernel: Kernel = "sde"
    """All published recipes for BAGEL use the SDE."""
    eta: float = 0.8
    """Noise level (UniGRPO, arXiv 2603.23500: 0.8)."""
    window: Window = field(default_factory=Window)
