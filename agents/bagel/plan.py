"""The first half of packing: one pass over the items, in Python; what is per token is left to numpy."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from .config import BagelConfig
from .flow import shift_time
from .items import PLAIN, Drawn, Dropped, Item, LatentItem, NoisyImage, StateImage, Text, VaeImage, VitImage
from .tokenizer import TokenIds

TEXT, VIT, LATENT = range(3)


class Entry(NamedTuple):
    """An item that has tokens."""

    ids: np.ndarray
    """Token ids; 0 inside images."""
    kind: int
    """Kind of its inner tokens; markers are always text."""
    noisy: bool
    """Whether nothing else sees it."""
    first: int
    """Number of the first item of its sample."""
    limit: int
    """Number of the first item it does not see."""
    rope: int
    """Rotary position of its first token."""


class Predicted(NamedTuple):
    """A stretch of predicted tokens."""

    places: np.ndarray
    """Place in the sequence of the tokens that predict."""
    labels: np.ndarray
    weight: float
    balance: float
    drawn: Drawn


@dataclass(slots=True)
class Plan:
    """What one pass over the items collects."""

    config: BagelConfig
    """Configuration of the model."""
    tokens: TokenIds
    """Ids of the markers."""
    rng: np.random.Generator | None
    """Source of timesteps."""
    entries: list[Entry] = field(default_factory=list)
    """Items in order, all samples."""
    total: int = 0
    """Tokens so far."""
    ce: list[Predicted] = field(default_factory=list)
    """Stretches of predicted tokens."""
    vit: list[Tensor] = field(default_factory=list)
    """Pixels of each encoder image."""
    latent: list[tuple[LatentItem, tuple[int, int], float]] = field(default_factory=list)
    """(item, grid, t) of each latent image."""

    def add_sample(self, items: Sequence[Item]) -> int:
        """Add the items of one sample; returns its number of tokens."""
        begin, first = self.total, len(self.entries)
        rope = 0
        after = [(0, first)]  # rotary counter and next entry after the first k items
        for k, item in enumerate(items):
            noisy, sees = isinstance(item, NoisyImage | StateImage), k
            if isinstance(item, NoisyImage | StateImage) and item.sees is not None:
                sees = item.sees
            if not 0 <= sees <= k:
                raise ValueError(f"Expected sees in 0..{k} in item {k} of its sample, got {sees}.")
            seen_rope, limit = after[sees]
            if not isinstance(item, Dropped):
                kind, ids = self._tokens(item)
                self.entries.append(Entry(ids, kind, noisy, first, limit, seen_rope))
                self._predict(item, ids)
                self.total += len(ids)
            rope += 0 if noisy else len(item.ids) + 2 if isinstance(item, Text) else 1
            after.append((rope, len(self.entries)))
        return self.total - begin

    def _tokens(self, item: Item) -> tuple[int, np.ndarray]:
        """Kind and ids of an item's tokens; images are put on their lists."""
        if isinstance(item, Text):
            return TEXT, np.array([self.tokens.bos_token_id, *item.ids, self.tokens.eos_token_id], np.int64)
        if isinstance(item, VitImage):
            height, width = item.pixels.shape[-2:]
            kind, count = (
                VIT,
                (height // self.config.vit_config.patch_size) * (width // self.config.vit_config.patch_size),
            )
            self.vit.append(item.pixels)
        else:
            assert isinstance(item, LatentItem)
            grid = latent_grid(item, self.config)
            kind, count = LATENT, grid[0] * grid[1]
            self.latent.append((item, grid, self._time(item)))
        ids = np.zeros(count + 2, np.int64)
        ids[0], ids[-1] = self.tokens.start_of_image, self.tokens.end_of_image
        return kind, ids

    def _predict(self, item: Item, ids: np.ndarray) -> None:
        """Record what the item's tokens predict."""
        where = np.arange(self.total, self.total + len(ids))
        if isinstance(item, Text) and item.loss is not False:
            labels, chosen = ids[1:], np.ones(len(ids) - 1, bool) if item.loss is True else np.array(item.loss, bool)
            if chosen.shape != labels.shape:
                raise ValueError(f"Expected {len(labels)} loss flags (ids, closing marker), got {len(chosen)}.")
            found = where[:-1][chosen], labels[chosen]
            self.ce.append(Predicted(*found, item.weight, len(labels) ** -0.5, _checked(item.drawn, len(found[1]))))
        if isinstance(item, Text | VitImage | VaeImage) and item.switch is not None:
            drawn = PLAIN if isinstance(item, VaeImage) else _checked(item.switch_drawn, 1)
            self.ce.append(Predicted(where[-1:], np.array([item.switch]), item.switch_weight, 1.0, drawn))

    def _time(self, item: LatentItem) -> float:
        """Final t of a latent image."""
        if isinstance(item, VaeImage):
            return 0.0
        if isinstance(item, StateImage):
            return item.time
        raw = item.t
        if raw is None:
            if self.rng is None:
                raise ValueError("Expected rng, to draw the timestep of a NoisyImage without t, got None.")
            raw = self.rng.standard_normal()
        return shift_time(float(1.0 / (1.0 + np.exp(-raw))), self.config.timestep_shift)


def _checked(drawn: Drawn, num: int) -> Drawn:
    if len(drawn.allowed) not in (0, num):
        raise ValueError(f"Expected the allowed ids of {num} predicted tokens, got {len(drawn.allowed)} sets.")
    if not drawn.temperature > 0:
        raise ValueError(f"Expected a temperature above 0 of drawn tokens, got {drawn.temperature!r}.")
    return drawn


def latent_grid(item: LatentItem, config: BagelConfig) -> tuple[int, int]:
    """(rows, columns) of the latent tokens of an image; ``ValueError`` if its tensor does not fit."""
    latent, pixels = (item.state, None) if isinstance(item, StateImage) else (item.latent, item.pixels)
    if (latent is None) == (pixels is None):
        raise ValueError(f"Expected exactly one of latent and pixels in {type(item).__name__}.")
    if pixels is not None:
        height, width = pixels.shape[-2:]
        return height // config.latent_stride, width // config.latent_stride
    assert latent is not None
    side = round(len(latent) ** 0.5)
    grid = item.grid or (side, side)
    if latent.shape != (grid[0] * grid[1], config.latent_dim):
        raise ValueError(
            f"Expected latents ({grid[0]} x {grid[1]} tokens, {config.latent_dim}), got {tuple(latent.shape)}; "
            "an image that is not square needs grid=(rows, columns)."
        )
    return grid
