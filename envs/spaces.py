"""The two spaces of the environment: any prose, and emissions of which some are legal.

``gymnasium.spaces.Text`` is not used on purpose: its default charset has no space character, a full
Unicode charset costs seconds, and ``AsyncVectorEnv`` with shared memory silently freezes its values.
A plain ``Space[str]`` is refused there with a clear message instead.
"""

import string
from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium import spaces

from .markup import Inspection, Plan
from .stages import Emission, Stage

LETTERS = np.array([*string.ascii_lowercase, " "])


class Prose(spaces.Space[str]):
    """Any string of at most ``max_length`` characters; samples are short ASCII words."""

    is_np_flattenable = False  # type: ignore[assignment]

    def __init__(self, max_length: int, seed: int | np.random.Generator | None = None) -> None:
        if max_length < 1:
            raise ValueError(f"Expected `max_length` of at least 1, got {max_length}.")
        self.max_length = max_length
        super().__init__(dtype=str, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Up to 24 letters and spaces, never blank; masks do not apply to prose."""
        length = int(self.np_random.integers(1, min(self.max_length, 24) + 1))
        words = "".join(self.np_random.choice(LETTERS, size=length))
        return words if words.strip() else "a" * length

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string and not too long."""
        return isinstance(x, str) and len(x) <= self.max_length

    def to_jsonable(self, sample_n: Iterable[str]) -> list[str]:
        """The strings as they are."""
        return list(sample_n)

    def from_jsonable(self, sample_n: list[Any]) -> list[str]:
        """The strings as they are."""
        return [str(item) for item in sample_n]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prose) and other.max_length == self.max_length

    def __repr__(self) -> str:
        return f"Prose({self.max_length})"


class Emissions(spaces.OneOf):
    """One branch per ``Stage``; ``sample(info["action_mask"])`` gives a legal emission.

    Samples are well-formed: a PLAN has its ``<ins>`` and ``<des>``, an INSPECT asks for a refinement
    half of the time, STOP says nothing. A random agent that follows the mask never errs.

    Args:
        branches: The content spaces of PLAN, SKETCH, INSPECT, REFINE and STOP, in this order.
    """

    def __init__(self, branches: Iterable[spaces.Space[Any]], seed: Any = None) -> None:
        branches = tuple(branches)
        if len(branches) != len(Stage):
            raise ValueError(f"Expected {len(Stage)} branches, one per stage, got {len(branches)}.")
        super().__init__(branches, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> Emission:
        """A random emission.

        Args:
            mask: int8 (5,) as in ``info["action_mask"]``; ``None``: any stage. Where nothing is legal
                (the episode is over) the sample is STOP, which a vector environment ignores.
            probability: float (5,), summing to 1: the chance of each stage; excludes ``mask``.
        """
        if mask is not None and probability is not None:
            raise ValueError("Expected `mask` or `probability`, got both.")
        stages = np.arange(len(Stage)) if mask is None else np.flatnonzero(_per_stage(mask))
        chances = None if probability is None else _per_stage(probability)
        stage = Stage(int(self.np_random.choice(stages, p=chances))) if len(stages) else Stage.STOP
        return Emission(stage, self._content(stage))

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is ``(stage, content)`` with a content of that stage's branch."""
        # A Box would accept, with a warning, whatever NumPy can make an array of.
        return super().contains(x) if isinstance(x, tuple) and len(x) == 2 and _fits(*x) else False

    def _content(self, stage: Stage) -> Any:
        branch = self.spaces[stage]
        if stage is Stage.STOP:
            return ""
        if stage is Stage.PLAN:
            return str(Plan(branch.sample(), branch.sample()))
        if stage is Stage.INSPECT:
            return str(Inspection(branch.sample(), branch.sample() if self.np_random.random() < 0.5 else None))
        return branch.sample()

    def __repr__(self) -> str:
        return f"Emissions({', '.join(str(branch) for branch in self.spaces)})"


def _fits(number: Any, content: Any) -> bool:
    stages = [int(stage) for stage in Stage]
    return number in stages and isinstance(content, np.ndarray if Stage(number).is_image else str)


def _per_stage(values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.shape != (len(Stage),):
        raise ValueError(f"Expected one value per stage, shape ({len(Stage)},), got {array.shape}.")
    return array
