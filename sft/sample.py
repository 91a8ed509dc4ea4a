"""Sample: one training trajectory of the paper's data, with what is known of how it was made.

The data set of arXiv 2604.04746 has three subsets (its section 3.2, Table 1): multi-turn generation teaches to plan
and to sketch; instruction-intermediate conflict teaches to inspect the plan against the prompt; image-instruction
alignment teaches to inspect the sketch against the plan, and to refine it. All three are transcripts. What bears loss
is data (``Entry.loss``): what is to be judged, and what came before it, is context only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from ..envs.transcript import Transcript


class Subset(StrEnum):
    """The paper's three subsets."""

    MULTI_TURN = "multi_turn"
    CONFLICT = "conflict"
    ALIGNMENT = "alignment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row of the data set."""

    subset: Subset
    transcript: Transcript
    """``id`` is unique in the data set. Images are uint8 (H, W, 3); square with side ``size`` in the mini-world, of
    any size elsewhere."""
    label: bool | None = None
    """Whether what the last inspection looks at is right; ``None`` for multi-turn generation."""
    kinds: tuple[str, ...] = ()
    """Kinds of edits (multi-turn generation) or of faults (the others), for quotas and tables; sorted, without
    repeats."""
    graph_hash: str = ""
    """``Graph.canonical_hash`` of the prompt, or a hash of the normalised prompt where there is no graph: splits and
    de-duplication go by it."""
    split: str = "train"
    """"train" or "validation"; no graph is in both."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from, JSON-ready: ``source`` ("exact", "symbolic", "self-sampled", "genref" …), and whatever
    generator, editor, judge, checkpoint or seed made it."""


class Maker(Protocol):
    """Makes the samples of one subset, chunk by chunk, in any process."""

    def make(self, chunk: int, num: int) -> Sequence[Sample]:
        """The first ``num`` samples of a chunk; they depend on the settings, ``chunk`` and ``num`` alone."""
        ...
