"""The grammar of the process: which stages exist and which may follow which.

A drawing is a sequence of emissions, each one a stage and its content. Text and image stages
alternate as in "Think in Strokes, Not Pixels" (arXiv 2604.04746): Plan, Sketch, Inspect, Refine,
and again, until the agent stops. This module is the only place that knows the order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

import numpy as np

from .markup import has_refine


class Stage(IntEnum):
    """A stage of the process. The value is the branch of the action space."""

    PLAN = 0
    SKETCH = 1
    INSPECT = 2
    REFINE = 3
    STOP = 4

    @property
    def is_image(self) -> bool:
        """Whether an emission of this stage carries an image (else it carries text)."""
        return self in (Stage.SKETCH, Stage.REFINE)


class Emission(NamedTuple):
    """One thing an agent emits; a tuple, hence an element of the action space as it stands."""

    stage: Stage
    content: str | np.ndarray
    """Text for PLAN and INSPECT, ``""`` for STOP, uint8 (size, size, 3) for SKETCH and REFINE."""


FOLLOWS: Mapping[Stage | None, frozenset[Stage]] = {
    None: frozenset({Stage.PLAN}),
    Stage.PLAN: frozenset({Stage.SKETCH}),
    Stage.SKETCH: frozenset({Stage.INSPECT}),
    Stage.INSPECT: frozenset({Stage.PLAN, Stage.REFINE, Stage.STOP}),
    Stage.REFINE: frozenset({Stage.PLAN, Stage.STOP}),
    Stage.STOP: frozenset(),
}
"""Stages that may follow a stage; ``None`` stands for the prompt."""


class Said(Protocol):
    """What the order of stages reads of an emission: stage at 0, content at 1."""

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """Options that widen or move the edges of ``FOLLOWS``."""

    inspect_refined: bool = False
    """A refined image is inspected again (REFINE is followed by INSPECT alone)."""
    stop_after_image: bool = False
    """The agent may stop right after any image, as in the paper's figure."""
    heeds_refine: bool = True
    """A ``<refine>`` moves the process. If not, inspections are written and change nothing: the control of what the
    inspect loop is worth."""


def legal(accepted: Iterable[Said], grammar: Grammar | None = None) -> frozenset[Stage]:
    """Stages that may come next.

    Args:
        accepted: The accepted emissions so far, in order (illegal ones left out). Only the last
            one counts: its stage, and for an inspection whether it asks for a refinement.
        grammar: Options; the paper's order by default.

    After an inspection with a well-formed ``<refine>``: REFINE (redraw), or PLAN (the plan itself
    was wrong and is written anew). After one without, or that is not heeded: PLAN or STOP.
    """
    grammar = grammar or Grammar()
    last = None
    for last in accepted:  # noqa: B007 - the last one is what we want
        pass
    if last is None:
        return FOLLOWS[None]
    stage, content = Stage(last[0]), last[1]
    if stage is Stage.INSPECT:
        is_asked = grammar.heeds_refine and has_refine(str(content))
        return frozenset({Stage.PLAN, Stage.REFINE if is_asked else Stage.STOP})
    if stage is Stage.REFINE and grammar.inspect_refined:
        after = {Stage.INSPECT}
    else:
        after = set(FOLLOWS[stage])
    if stage.is_image and grammar.stop_after_image:
        after.add(Stage.STOP)
    return frozenset(after)
