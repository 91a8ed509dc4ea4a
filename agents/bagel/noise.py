"""Noise of the flow: which steps of an image are stochastic, and how.

Reinforcement learning needs steps with a density. They are few: the rest of the path is the deterministic ODE, and
only the stochastic steps are stored, replayed and trained on (Flow-GRPO-Fast, MixGRPO arXiv 2507.21802).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from .flow import Kernel

Kind = Literal["all", "contiguous", "scattered", "progressive"]
"""All steps; neighbours, anywhere (Flow-GRPO-Fast) or moving on with training (MixGRPO); or single ones (DanceGRPO)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which steps are stochastic."""

    kind: Kind = "contiguous"
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

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"Expected window.kind among {', '.join(get_args(Kind))}, got {self.kind!r}.")
        for name, least in (("size", 1), ("low", 0), ("every", 1), ("stride", 1)):
            if type(value := getattr(self, name)) is not int or value < least:
                raise ValueError(f"Expected window.{name} to be a whole number of at least {least}, got {value!r}.")
        if self.high is not None and (type(self.high) is not int or self.high <= self.low):
            raise ValueError(f"Expected window.high above window.low ({self.low}), or null, got {self.high!r}.")

    def steps(self, num_steps: int, seed: Sequence[int]) -> tuple[int, ...]:
        """Numbers of the stochastic steps, ascending, decided by ``seed[:3]`` = (seed, step, prompt) alone.

        Members of a group, which differ in what follows, share them: advantages compare like with like.

        Raises:
            ValueError: So many steps do not fit.
        """
        last = num_steps - 1
        high = min(self.high if self.high is not None else last, last)
        if high - self.low < (1 if self.kind == "all" else self.size):
            raise ValueError(
                f"Expected room for {1 if self.kind == 'all' else self.size} stochastic steps from step {self.low} on, "
                f"got steps {self.low} to {high - 1} of {num_steps} (the last one is never stochastic); set a smaller "
                "window, or more steps."
            )
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

    def __post_init__(self) -> None:
        if self.kernel not in get_args(Kernel):
            raise ValueError(f"Expected kernel among {', '.join(get_args(Kernel))}, got {self.kernel!r}.")
        if not 0 < self.eta < (1 if self.kernel == "cps" else float("inf")):
            bound = "above 0 and below 1 with cps" if self.kernel == "cps" else "above 0"
            raise ValueError(f"Expected a noise level eta {bound}, got {self.eta!r}.")
