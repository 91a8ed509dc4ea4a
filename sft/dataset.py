"""PackDataset: the packs of a run, each a pure function of (settings, seed, number).

Nothing has to be remembered to go on with a run, and it does not matter which process asks for a pack: what is in it,
its condition dropout, its times and its noise come from a generator of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ..agents.bagel.config import BagelConfig
from ..agents.bagel.sequence import Item, pack
from ..agents.bagel.tokenizer import TokenIds
from .collator import Collator
from .packing import Choice, Packing
from .sources import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What is drawn anew each time a sample is used, see ``Collator``."""

    copies: int = 1
    drop_last_text: float = 0.0
    drop_all: float = 0.0
    changed_weight: float = 0.0


class PackDataset(Dataset[dict[str, Any]]):
    """Packs at random access: ``pack``, the ``seed`` of its noise, and its ``tokens`` and ``flops``."""

    def __init__(
        self,
        sources: Sequence[Source],
        packing: Packing,
        drawing: Drawing,
        config: BagelConfig,
        ids: TokenIds,
        *,
        num: int,
        seed: int = 0,
        row_length: int | None = None,
    ) -> None:
        """Args:

        sources: Of the samples that ``packing`` chooses.
        packing: Which samples are together; made for ``drawing.copies`` copies.
        drawing: What is drawn anew.
        config: Of the model.
        ids: Of its special tokens.
        num: Packs in all.
        seed: Decides what is drawn.
        row_length: See ``sequence.pack``.
        """
        self.sources, self.packing, self.drawing = list(sources), packing, drawing
        self.config, self.ids, self.num, self.seed, self.row_length = config, ids, num, seed, row_length
        options = asdict(drawing)
        self._flops = lru_cache(maxsize=None)(self._cost)
        self._collators = [Collator(table=source.images, **options) for source in self.sources]

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Pack ``number``."""
        choices = self.choices(number)
        rng = np.random.default_rng([self.seed, 7, number])
        packed = pack(self.items(choices, rng), self.config, self.ids, row_length=self.row_length)
        return {
            "pack": packed,
            "seed": int(rng.integers(2**62)),
            "tokens": self.packing.tokens(number),
            "flops": sum(self._flops(*choice) for choice in choices),
        }

    def _cost(self, source: int, index: int) -> int:
        return self.sources[source].flops(index, self.drawing.copies)

    def choices(self, number: int) -> list[Choice]:
        """The samples of a pack, those of one source together, as they stand in it."""
        return sorted(self.packing[number], key=lambda choice: choice.source)

    def items(self, choices: Sequence[Choice], rng: np.random.Generator) -> list[list[Item]]:
        """Items of samples, in order; all of one source are drawn together."""
        samples: list[list[Item]] = []
        for source, collator in enumerate(self._collators):
            samples += collator([self.sources[k][index] for k, index in choices if k == source], rng)
        return samples


def only(packs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of a batch of one pack, the pack: a pack is the batch."""
    (one,) = packs
    return one
