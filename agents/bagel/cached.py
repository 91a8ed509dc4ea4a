"""Attention of a forward over cached keys and values (the model's ``Attend``).

A forward first writes the keys and values of its tokens into their slots, then attends over the slots that each
token may see. Small forwards do that in one call for all rows, padded and masked. Where the mask would be large (long
contexts, big images) each run of tokens that see the same attends by itself, without a mask and without padding.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .cache import KVCache

DENSE = 2**24
"""Largest mask, in entries: 64 MB in float32. Beyond it one attention call per run of tokens costs less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Where the tokens of a forward lie, and what they see."""

    rows: np.ndarray
    """Row of each within the selection, int64 (T,), any order."""
    slots: np.ndarray
    """Slot of each, int64 (T,)."""
    seen: np.ndarray
    """Each sees the slots below this number, int64 (T,)."""
    own: np.ndarray
    """A further range of slots (first, end) that each sees, not before ``seen``; int64 (T, 2), (0, 0) for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Tokens that attend together, without padding."""

    tokens: Tensor
    """Flat tokens, int64 (n,)."""
    row: int
    """Their row."""
    ranges: tuple[tuple[int, int], ...]
    """Slots that they see, (first, end) of each range."""
    mask: Tensor | None
    """Additive, (n, slots seen); ``None``: all of them see all of these slots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A forward over a selection of a cache: computed once, used by every layer."""

    write: Tensor
    """Flat slot ``row * capacity + slot`` of each token, int64 (T,)."""
    num_rows: int = 0
    """Rows of the selection."""
    width: int = 0
    """Largest number of tokens of a row; queries are padded to it."""
    span: int = 0
    """Slots that anyone sees: keys 0 … span - 1 take part."""
    gather: Tensor | None = None
    """Token of each padded query, int64 (num_rows * width,); ``None`` where tokens lie row by row, unpadded."""
    scatter: Tensor | None = None
    """Padded query of each token, int64 (T,)."""
    mask: Tensor | None = None
    """0 where a query sees a key and -inf elsewhere, (num_rows, 1, groups * width, span), in the dtype
    of the keys; ``None`` where everybody sees everything."""
    runs: tuple[Run, ...] = ()
    """Instead of all that: one attention call for each."""


def lay_out(cache: KVCache, tokens: Tokens, groups: int) -> Layout:
    """Lay out a forward over a selection of a cache; ``groups`` is the number of query heads per key head."""
    like = cache.keys[0]
    write = torch.from_numpy(tokens.rows * cache.capacity + tokens.slots).to(like.device)
    num_rows, num = cache.num_rows, len(tokens.rows)
    counts = np.bincount(tokens.rows, minlength=num_rows)
    width, span = int(counts.max()), int(max(tokens.seen.max(), tokens.slots.max() + 1))
    sees_all = (tokens.seen >= span) | ((tokens.own[:, 0] <= tokens.seen) & (tokens.own[:, 1] >= span))
    if not sees_all.all() and num_rows * width * span * groups > DENSE:
        return Layout(write=write, runs=tuple(_runs(tokens, like)))
    order = np.argsort(tokens.rows, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(num) - np.repeat(np.cumsum(counts) - counts, counts) + tokens.rows[order] * width
    gather = scatter = None
    if num != num_rows * width or (order != np.arange(num)).any():
        padded = np.zeros(num_rows * width, dtype=np.int64)
        padded[place] = np.arange(num)
        gather, scatter = torch.from_numpy(padded).to(like.device), torch.from_numpy(place).to(like.device)
    mask = None
    if not sees_all.all():
        visible = np.zeros((num_rows * width, span), dtype=bool)
        visible[:, 0] = True  # padding looks at one finite key: an empty softmax would be NaN
        visible[place] = _visible(tokens, np.arange(num), np.arange(span))
        mask = _additive(visible.reshape(num_rows, 1, width, span), like).repeat(1, 1, groups, 1)
    return Layout(write=write, num_rows=num_rows, width=width, span=span, gather=gather, scatter=scatter, mask=mask)


def _visible(tokens: Tokens, chosen: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Which of ``slots`` each chosen token sees, bool (len(chosen), len(slots))."""
    own = tokens.own[chosen]
    return (slots < tokens.seen[chosen][:, None]) | ((slots >= own[:, :1]) & (slots < own[:, 1:]))


def _additive(visible: np.ndarray, like: Tensor) -> Tensor:
    allowed = torch.from_numpy(visible).to(like.device)
    return torch.zeros(allowed.shape, dtype=like.dtype, device=like.device).masked_fill_(~allowed, float("-inf"))


def _runs(tokens: Tokens, like: Tensor) -> list[Run]:
    """Consecutive tokens that see the same, and texts, in which each token sees one slot more."""
    order = np.lexsort((tokens.slots, tokens.rows))
    rows, slots, seen, own = (x[order] for x in (tokens.rows, tokens.slots, tokens.seen, tokens.own))
    is_next = (np.diff(rows) == 0) & (np.diff(slots) == 1) & (np.diff(own, axis=0) == 0).all(1)
    causal = seen == slots + 1
    joined = is_next & ((np.diff(seen) == 0) | (causal[1:] & causal[:-1]))
    bounds = np.flatnonzero(np.concatenate([[True], ~joined, [True]]))
    runs = []
    for start, end in pairwise(bounds.tolist()):
        chosen, limit, (first, last) = order[start:end], int(seen[end - 1]), own[start].tolist()
        ranges = [(0, limit), (first, last)] if first > limit else [(0, max(limit, last))]
        ranges = [(a, b) for a, b in ranges if b > a]
        mask = None
        if seen[start] != limit:
            mask = _additive(_visible(tokens, chosen, np.arange(limit)), like)
        runs.append(
            Run(tokens=torch.from_numpy(chosen).to(like.device), row=int(rows[start]), ranges=tuple(ranges), mask=mask)
        )
    return runs


class CachedAttention:
    """Attention over a selection of a cache, one forward after the other."""

    def __init__(self, cache: KVCache, layout: Layout) -> None:
        """Args:

        cache: Read and written.
        layout: Of the next forward; may be replaced between forwards.
        """
        self.layout = layout
        pairs = zip(cache.keys, cache.values, strict=True)
        self._buffers = [(keys, values, keys.flatten(0, 1), values.flatten(0, 1)) for keys, values in pairs]

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
        if to.runs:
            return _attend_runs(q, keys, values, to.runs)
        padded = (q if to.gather is None else q.index_select(0, to.gather)).to(keys.dtype)
        out = scaled_dot_product_attention(
            _grouped(padded, to.num_rows, keys.shape[2]),
            keys[:, : to.span].transpose(1, 2),
            values[:, : to.span].transpose(1, 2),
            attn_mask=to.mask,
        )
        out = _ungrouped(out, to.width, q.shape[1])
        return (out if to.scatter is None else out.index_select(0, to.scatter)).to(q.dtype)


def _attend_runs(q: Tensor, keys: Tensor, values: Tensor, runs: tuple[Run, ...]) -> Tensor:
    out = torch.empty_like(q)
    for run in runs:
        k, v = (
            torch.cat([x[run.row, first:end] for first, end in run.ranges]).transpose(0, 1)[None]
            if len(run.ranges) > 1
            else x[run.row, run.ranges[0][0] : run.ranges[0][1]].transpose(0, 1)[None]
            for x in (keys, values)
        )
        query = q.index_select(0, run.tokens).to(k.dtype).transpose(0, 1)[None]
        mixed = scaled_dot_product_attention(query, k, v, attn_mask=run.mask, enable_gqa=query.shape[1] != k.shape[1])
        out.index_copy_(0, run.tokens, mixed[0].transpose(0, 1).to(q.dtype))
    return out


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
