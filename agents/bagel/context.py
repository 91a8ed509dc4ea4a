"""Growing contexts of many canvases over one model: encode once, look from anywhere.

A context is a row of the key/value cache and a ``Mark``: how far the row is filled, the rotary position
that comes next, and where the text-unconditional context of guidance ends. A shorter context is an
earlier mark of the same row: nothing is copied to look back, to cut, or to leave a text out. Items are
laid out by ``sequence.pack``, the one packing; a noisy image sees a context and itself, and nobody sees it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .cache import KVCache
from .cached import CachedAttention, Tokens, lay_out
from .items import Text, VaeImage, VitImage
from .model import Bagel
from .sequence import Pack, pack
from .tokenizer import TokenIds

ContextItem = Text | VitImage | VaeImage
"""What a context is made of; a ``VaeImage`` must carry its latent."""


class View(NamedTuple):
    """A context as a noisy image sees it: the first ``length`` slots of a row, itself at ``rope``."""

    row: int
    length: int
    rope: int


class Mark(NamedTuple):
    """How far a context is filled."""

    length: int = 0
    """Tokens in the cache."""
    rope: int = 0
    """Rotary position of the next token."""
    base_length: int = 0
    """Tokens of the text-unconditional context: all before the last text, or all if an image is last."""
    base_rope: int = 0
    """Rotary position of the next token there."""
    hidden: Tensor | None = None
    """Final hidden state of the last token, (D,); it predicts what comes next."""


class Contexts:
    """Contexts of any number of canvases, of any lengths, in one cache."""

    def __init__(self, model: Bagel, tokens: TokenIds) -> None:
        """Start without any.

        Args:
            model: Encodes; its dtype and device are those of the cache.
            tokens: Ids of the special tokens.
        """
        self.model = model
        self.tokens = tokens
        llm = model.config.llm_config
        like = model.language_model.model.embed_tokens.weight
        self.groups = llm.num_attention_heads // llm.num_key_value_heads
        self.cache = KVCache.empty(
            llm.num_hidden_layers, llm.num_key_value_heads, llm.head_dim, dtype=like.dtype, device=like.device
        )
        self._trails: dict[int, list[Mark]] = {}

    @property
    def device(self) -> torch.device:
        """Where the cache lies."""
        return self.cache.keys[0].device

    def open(self, num: int) -> list[int]:
        """Rows of ``num`` new, empty contexts."""
        free = (row for row in range(len(self._trails) + num) if row not in self._trails)
        rows = list(islice(free, num))
        self._trails.update((row, [Mark()]) for row in rows)
        return rows

    def close(self, rows: Iterable[int]) -> None:
        """Forget contexts. Their memory is reused, and freed with the last of them."""
        for row in rows:
            del self._trails[row]
        if not self._trails:
            self.cache.clear()

    def mark(self, row: int) -> Mark:
        """How far a context is filled now."""
        return self._trails[row][-1]

    def trail(self, row: int) -> list[Mark]:
        """The marks of a context: the empty one, then one after each item."""
        return list(self._trails[row])

    def cut(self, row: int, mark: Mark) -> None:
        """Go back to an earlier mark of the same row, or replace the last one."""
        if mark.length > self.mark(row).length:
            raise ValueError(f"Expected a mark within {self.mark(row).length} tokens, got {mark.length}.")
        self._trails[row] = [m for m in self._trails[row] if m.length < mark.length] + [mark]

    def advance(self, row: int, mark: Mark) -> None:
        """Declare slots filled that were written through a selection and committed."""
        self._trails[row].append(mark)

    def view(self, row: int) -> View:
        """The whole context."""
        return View(row, self.mark(row).length, self.mark(row).rope)

    def base(self, row: int) -> View:
        """The text-unconditional context: the same row without its last text."""
        return View(row, self.mark(row).base_length, self.mark(row).base_rope)

    @torch.no_grad()
    def logits(self, rows: Sequence[int]) -> Tensor:
        """Logits of the token after each context, float32 (len(rows), vocab)."""
        hidden = [h for row in rows if (h := self.mark(row).hidden) is not None]
        if len(hidden) < len(rows):
            raise ValueError("Expected contexts with at least one item, got an empty one; extend it first.")
        return self.model.logits(torch.stack(hidden)).float()

    @torch.no_grad()
    def extend(self, rows: Sequence[int], items: Sequence[Sequence[ContextItem]]) -> list[Tensor]:
        """Encode items at the end of contexts, all in one forward.

        Args:
            rows: Distinct contexts.
            items: For each of them what to append, in order; may be nothing.

        Returns:
            Final hidden states of each context's new tokens, in their order, (n_i, D).
        """
        chosen = [i for i, new in enumerate(items) if new]
        like = self.cache.keys[0]
        out = [like.new_zeros(0, self.model.config.llm_config.hidden_size)] * len(rows)
        if not chosen:
            return out
        used = [rows[i] for i in chosen]
        packed = pack([items[i] for i in chosen], self.model.config, self.tokens)
        if packed.pixels:
            raise ValueError("Expected VaeImage items with latents, got pixels; encode them first (encode_images).")
        sample, index = _places(packed)
        lengths = np.array([self.mark(row).length for row in used])
        ropes = np.array([self.mark(row).rope for row in used])
        slots = index + lengths[sample]
        work = self.reserve(used, int(slots.max()) + 1)
        none = np.zeros((len(slots), 2), dtype=np.int64)
        layout = lay_out(work, Tokens(rows=sample, slots=slots, seen=_seen(packed, slots), own=none), self.groups)
        positions = (packed.positions + torch.from_numpy(ropes[sample])).to(self.device)
        packed = packed.to(self.device)
        embeds = self.model.embed_pack(packed, packed.latents)
        hidden = self.model.language_model.model(embeds, positions, packed.routing, CachedAttention(work, layout))
        counts, sizes = np.bincount(sample), iter(np.bincount(packed.visibility.item.cpu()).tolist())
        self.cache.commit(work, used, list(zip(lengths.tolist(), (lengths + counts).tolist(), strict=True)))
        order = torch.from_numpy(np.lexsort((index, sample))).to(self.device)
        for i, row, part in zip(chosen, used, hidden.index_select(0, order).split(counts.tolist()), strict=True):
            self._trails[row] += _after(self.mark(row), items[i], sizes, part)
            out[i] = part
        return out

    def reserve(self, rows: Sequence[int], capacity: int) -> KVCache:
        """A selection of rows with room for ``capacity`` tokens each."""
        self.cache.grow(max(self._trails) + 1, capacity)
        return self.cache.select(rows, capacity)


def _places(packed: Pack) -> tuple[np.ndarray, np.ndarray]:
    """Sample of each flat token and its index within the sample, int64 (T,) each."""
    sample = np.unique(packed.visibility.first.numpy(), return_inverse=True)[1]
    starts = np.cumsum(counts := np.bincount(sample)) - counts
    return sample, packed.slots.numpy() - starts[sample]


def _seen(packed: Pack, slots: np.ndarray) -> np.ndarray:
    """Slots below which each token sees: up to itself in a text, to the end of its image otherwise."""
    item = packed.visibility.item.numpy()
    end = np.zeros(item.max() + 1, dtype=np.int64)
    np.maximum.at(end, item, slots + 1)
    return np.where(packed.visibility.causal.numpy(), slots + 1, end[item])


def _after(mark: Mark, items: Sequence[ContextItem], sizes: Iterator[int], hidden: Tensor) -> list[Mark]:
    """The marks after each further item; ``sizes`` yields their numbers of tokens."""
    marks, first = [], mark.length
    for item in items:
        length = mark.length + next(sizes)
        rope = mark.rope + (length - mark.length if isinstance(item, Text) else 1)
        base = (mark.length, mark.rope) if isinstance(item, Text) else (length, rope)
        # A clone, lest the states of all tokens stay alive for the sake of the last.
        mark = Mark(length, rope, *base, hidden=hidden[length - first - 1].clone())
        marks.append(mark)
    return marks
