"""Keys and values of many ragged contexts, and the attention that reads and writes them.

Per layer there are two buffers of shape (rows, capacity, kv_heads, head_dim); a row holds one context,
filled from slot 0. A forward first writes the keys and values of its tokens into their slots, then
attends over the slots that each token may see. Slots beyond a context's length are scratch: noisy images
and finished rows of a batch write there and nobody sees it afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the tokens of one forward lie and what they see: computed once, used by every layer."""

    write: Tensor
    """Flat slot ``row * capacity + slot`` of each token, int64 (T,)."""
    num_rows: int
    """Rows of the cache that take part."""
    width: int
    """Largest number of tokens of a row; queries are padded to it."""
    span: int
    """Slots that anyone sees: keys 0 … span - 1 take part."""
    gather: Tensor | None = None
    """Token of each padded query, int64 (num_rows * width,); ``None`` where tokens lie row by row, unpadded."""
    scatter: Tensor | None = None
    """Padded query of each token, int64 (T,)."""
    mask: Tensor | None = None
    """0 where a query sees a key and -inf elsewhere, (num_rows, 1, groups * width, span), in the dtype
    of the keys; ``None`` where everybody sees everything."""


class KVCache:
    """Key and value buffers of ragged contexts; also a working selection of them."""

    def __init__(self, keys: list[Tensor], values: list[Tensor]) -> None:
        self.keys = keys
        """Per layer (rows, capacity, kv_heads, head_dim), after key norm and RoPE."""
        self.values = values

    @classmethod
    def empty(
        cls, num_layers: int, num_kv_heads: int, head_dim: int, *, dtype: torch.dtype, device: torch.device
    ) -> "KVCache":
        """Buffers without rows."""

        def buffers() -> list[Tensor]:
            return [torch.zeros(0, 0, num_kv_heads, head_dim, dtype=dtype, device=device) for _ in range(num_layers)]

        return cls(buffers(), buffers())

    @property
    def num_rows(self) -> int:
        """Contexts that fit."""
        return self.keys[0].shape[0]

    @property
    def capacity(self) -> int:
        """Slots of each row."""
        return self.keys[0].shape[1]

    def grow(self, num_rows: int, capacity: int) -> None:
        """Make room, keeping the contents; one buffer at a time, so that the peak is one buffer more."""
        if num_rows <= self.num_rows and capacity <= self.capacity:
            return
        # A quarter more slots than asked for: growing token by token stays linear in the length.
        rows = max(num_rows, self.num_rows)
        slots = capacity + capacity // 4 if capacity > self.capacity else self.capacity
        for buffers in (self.keys, self.values):
            for layer, old in enumerate(buffers):
                # Zeros, not garbage: a masked NaN would still poison the attention.
                buffers[layer] = old.new_zeros(rows, slots, *old.shape[2:])
                buffers[layer][: old.shape[0], : old.shape[1]] = old

    def clear(self) -> None:
        """Forget all rows and free their memory."""
        for buffers in (self.keys, self.values):
            buffers[:] = [old.new_zeros(0, 0, *old.shape[2:]) for old in buffers]

    def select(self, rows: Sequence[int], capacity: int) -> "KVCache":
        """Rows to work on: a view where they are consecutive, else a copy to be written back.

        Args:
            rows: Distinct rows, in the order of the batch.
            capacity: Slots that the work needs; a copy holds no more.
        """
        first, num = rows[0], len(rows)
        if list(rows) == list(range(first, first + num)):
            return KVCache([k[first : first + num] for k in self.keys], [v[first : first + num] for v in self.values])
        index = torch.tensor(rows, device=self.keys[0].device)
        return KVCache(
            [k[:, :capacity].index_select(0, index) for k in self.keys],
            [v[:, :capacity].index_select(0, index) for v in self.values],
        )

    def commit(self, work: "KVCache", rows: Sequence[int], spans: Sequence[tuple[int, int]]) -> None:
        """Write slots ``spans[i]`` (first, end) of row ``i`` of a selection back to ``rows[i]``."""
        if work.keys[0].untyped_storage().data_ptr() == self.keys[0].untyped_storage().data_ptr():
            return
        device = self.keys[0].device
        source, target = (
            np.concatenate([row * width + np.arange(*span) for row, span in zip(index, spans, strict=True)])
            for index, width in ((range(len(rows)), work.capacity), (rows, self.capacity))
        )
        at, to = torch.from_numpy(source).to(device), torch.from_numpy(target).to(device)
        for ours, theirs in ((self.keys, work.keys), (self.values, work.values)):
            for old, new in zip(ours, theirs, strict=True):
                old.flatten(0, 1).index_copy_(0, to, new.flatten(0, 1).index_select(0, at))

    def layout(
        self, rows: np.ndarray, slots: np.ndarray, seen: np.ndarray, groups: int, own: np.ndarray | None = None
    ) -> Layout:
        """Lay out one forward over this selection.

        Args:
            rows: Row of each token within the selection, int64 (T,), any order.
            slots: Slot of each token, int64 (T,).
            seen: Each token sees the slots below this number, int64 (T,).
            groups: Query heads per key head.
            own: A further range of slots that each token sees, int64 (T, 2).
        """
        num_rows = self.num_rows
        counts = np.bincount(rows, minlength=num_rows)
        width = int(counts.max())
        order = np.argsort(rows, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + rows[order] * width
        span = int(max(seen.max(), slots.max() + 1))
        is_moved = len(rows) != num_rows * width or bool((order != np.arange(len(rows))).any())
        visible = np.zeros((num_rows * width, span), dtype=bool)
        visible[:, 0] = True  # padding looks at one finite key: an empty softmax would be NaN
        columns = np.arange(span)
        visible[place] = columns < seen[:, None]
        if own is not None:
            visible[place] |= (columns >= own[:, :1]) & (columns < own[:, 1:])
        gather = np.zeros(num_rows * width, dtype=np.int64)
        gather[place] = np.arange(len(rows))
        mask = None if visible[place].all() else self._additive(visible.reshape(num_rows, 1, width, span), groups)
        device = self.keys[0].device
        return Layout(
            write=torch.from_numpy(rows * self.capacity + slots).to(device),
            num_rows=num_rows,
            width=width,
            span=span,
            gather=torch.from_numpy(gather).to(device) if is_moved else None,
            scatter=torch.from_numpy(place).to(device) if is_moved else None,
            mask=mask,
        )

    def _additive(self, visible: np.ndarray, groups: int) -> Tensor:
        like = self.keys[0]
        allowed = torch.from_numpy(visible).to(like.device)
        mask = torch.zeros(allowed.shape, dtype=like.dtype, device=like.device).masked_fill_(~allowed, float("-inf"))
        return mask.repeat(1, 1, groups, 1)


class CacheAttend:
    """Attention over a selection of a cache (the model's ``Attend``), one forward after the other."""

    def __init__(self, cache: KVCache, layout: Layout) -> None:
        """Args:

        cache: Read and written.
        layout: Of the next forward; may be replaced between forwards.
        """
        self.layout = layout
        self._buffers = [
            (k, v, k.flatten(0, 1), v.flatten(0, 1)) for k, v in zip(cache.keys, cache.values, strict=True)
        ]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write keys and values, then attend.

        Args:
            layer: Index of the layer.
            q: (T, heads, head_dim), after norm and RoPE.
            k: (T, kv_heads, head_dim), likewise.
            v: (T, kv_heads, head_dim).
        """
        to = self.layout
        keys, values, flat_keys, flat_values = self._buffers[layer]
        flat_keys.index_copy_(0, to.write, k.to(keys.dtype))
        flat_values.index_copy_(0, to.write, v.to(keys.dtype))
        padded = (q if to.gather is None else q.index_select(0, to.gather)).to(keys.dtype)
        out = scaled_dot_product_attention(
            _grouped(padded, to.num_rows, keys.shape[2]),
            keys[:, : to.span].transpose(1, 2),
            values[:, : to.span].transpose(1, 2),
            attn_mask=to.mask,
        )
        out = _ungrouped(out, to.width, q.shape[1])
        return (out if to.scatter is None else out.index_select(0, to.scatter)).to(q.dtype)


def _grouped(q: Tensor, num_rows: int, kv_heads: int) -> Tensor:
    """(rows · width, heads, d) to (rows, kv_heads, groups · width, d).

    Heads that share a key head become further queries of it, so that keys are never repeated.
    """
    _, heads, dim = q.shape
    if heads == kv_heads:
        return q.view(num_rows, -1, heads, dim).transpose(1, 2)
    split = q.view(num_rows, -1, kv_heads, heads // kv_heads, dim)
    return split.permute(0, 2, 3, 1, 4).reshape(num_rows, kv_heads, -1, dim)


def _ungrouped(out: Tensor, width: int, heads: int) -> Tensor:
    """The inverse of ``_grouped``: (rows, kv_heads, groups · width, d) to (rows · width, heads, d)."""
    num_rows, kv_heads, _, dim = out.shape
    if heads == kv_heads:
        return out.transpose(1, 2).reshape(-1, heads, dim)
    split = out.view(num_rows, kv_heads, heads // kv_heads, width, dim)
    return split.permute(0, 3, 1, 2, 4).reshape(-1, heads, dim)
