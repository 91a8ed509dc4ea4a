"""Keys and values of many ragged contexts.

Per layer there are two buffers of shape (rows, capacity, kv_heads, head_dim); a row holds one context, filled
from slot 0. Slots beyond a context's length are scratch: noisy images and finished rows of a batch write there,
and nobody sees it afterwards.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


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
