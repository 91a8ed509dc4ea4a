"""Attention over the rows of a pack, with SDPA or flex-attention."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .sequence import Pack, Visibility

_SHORTEST = 64
"""Rows up to this length form one group; each further group doubles it."""


class _ToRows(torch.autograd.Function):
    """Flat tokens to padded rows. Padding repeats token 0; nothing reads it, so it passes no gradient back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors
        return grads[0].index_select(0, slots), None, None


class _FromRows(torch.autograd.Function):
    """Padded rows to flat tokens: the inverse of ``_ToRows``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.size = len(x)
        return x.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (slots,) = ctx.saved_tensors
        grad = grads[0]
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, slots, grad), None


def _by_slot(pack: Pack) -> Visibility:
    """The pack's ``Visibility`` over its rows, each (R, L). Padding is an item of its own, which nothing else sees."""
    padding, flat = pack.rows < 0, pack.rows.clamp(min=0)
    item, visible, first, limit, causal = (x[flat] for x in pack.visibility)
    return Visibility(
        item.masked_fill(padding, -2),
        visible.masked_fill(padding, -1),
        first.masked_fill(padding, 0),
        limit.masked_fill(padding, 0),
        causal & ~padding,
    )


def _may_attend(seen: Visibility) -> Tensor:
    """The rule of ``Visibility`` over rows, each (R, L) -> bool (R, L, L): [r, i, j] = slot i may attend to slot j.

    Padding attends to padding only, so that no row of a softmax is empty.
    """
    item, visible, first, limit, causal = seen
    column = torch.arange(item.shape[1], device=item.device)
    inside = (item[:, :, None] == item[:, None]) & (~causal[:, :, None] | (column[:, None] >= column))
    return inside | ((visible[:, None] >= first[:, :, None]) & (visible[:, None] < limit[:, :, None]))


def may_attend(pack: Pack) -> Tensor:
    """Who sees whom in a pack, bool (R, L, L): [r, i, j] = slot i of row r may attend to slot j."""
    return _may_attend(_by_slot(pack))


def _detached(attend: Callable[[Tensor, Tensor, Tensor], Tensor], noisy: Tensor, *qkv: Tensor) -> Tensor:
    """Attention in which noisy images see all but themselves without gradient; q, k, v (R, H, L, d), ``noisy`` (R, L).

    What other tokens see keeps its gradient, hence two calls; each query has the result of its own.
    """
    q, k, v = qkv
    own = noisy[:, None, :, None]
    context = attend(q, k, v)
    return torch.where(own, attend(q, torch.where(own, k, k.detach()), torch.where(own, v, v.detach())), context)


class _Group:
    """Rows of about one length, with their mask."""

    def __init__(self, seen: Visibility, is_prefix_detached: bool) -> None:
        self.shape = tuple(seen.item.shape)
        self.allowed = _may_attend(seen)
        noisy = (seen.visible < 0) & (seen.item >= 0)
        self.noisy = noisy if is_prefix_detached and noisy.any() else None
        self.mask: Tensor | None = None

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (R·L, Hq, d), k and v (R·L, Hkv, d) -> (R·L, Hq, d)."""
        if self.mask is None or self.mask.dtype != q.dtype:  # a bool mask would be converted in every layer
            self.mask = torch.zeros(self.allowed.shape, dtype=q.dtype, device=q.device)
            self.mask = self.mask.masked_fill_(~self.allowed, float("-inf"))[:, None]
        q, k, v = (x.view(*self.shape, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
        grouped = q.shape[1] != k.shape[1]
        sdpa = partial(F.scaled_dot_product_attention, attn_mask=self.mask, enable_gqa=grouped)
        out = sdpa(q, k, v) if self.noisy is None else _detached(sdpa, self.noisy, q, k, v)
        return out.transpose(1, 2).flatten(0, 1)


class PackedAttention:
    """An ``Attend`` over a pack: every token sees what the packing says.

    Rows are cut to their content and attended to in groups of like length: a pack may hold a few long
    trajectories among many short samples, and attention is quadratic in the longest row of a group.
    """

    def __init__(self, pack: Pack, is_prefix_detached: bool = False) -> None:
        """Args:

        pack: What to attend over.
        is_prefix_detached: Whether noisy images see their context's keys and values without gradient.
        """
        used = (pack.rows >= 0).sum(1)
        size = 2 ** torch.ceil(torch.log2(used.clamp(min=_SHORTEST))).long()
        seen = _by_slot(pack)
        self.groups: list[_Group] = []
        kept = []
        slot = torch.empty_like(pack.rows).reshape(-1)
        start = 0
        for limit in size.unique().tolist():
            rows = (size == limit).nonzero()[:, 0]
            length = int(used[rows].max())
            self.groups.append(_Group(Visibility(*(x[rows, :length] for x in seen)), is_prefix_detached))
            kept.append(pack.rows[rows, :length].reshape(-1))
            there = (rows[:, None] * pack.rows.shape[1] + torch.arange(length, device=rows.device)).reshape(-1)
            slot[there] = torch.arange(start, start + len(there), device=rows.device)
            start += len(there)
        self.rows = torch.cat(kept).clamp(min=0)
        self.slots = slot[pack.slots]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See ``Attend``."""
        q, k, v = (_ToRows.apply(x, self.rows, self.slots) for x in (q, k, v))
        sizes = [group.shape[0] * group.shape[1] for group in self.groups]
        parts = zip(self.groups, *(x.split(sizes) for x in (q, k, v)), strict=True)
        return _FromRows.apply(torch.cat([group.attend(*part) for group, *part in parts]), self.slots)


class FlexAttention:
    """The same by flex-attention; for one long row on a GPU, where it is compiled and holds no mask of all pairs."""

    def __init__(self, pack: Pack, is_prefix_detached: bool = False) -> None:
        """Args:

        pack: What to attend over.
        is_prefix_detached: Whether noisy images see their context's keys and values without gradient.
        """
        seen = _by_slot(pack)
        self.noisy = (seen.visible < 0) & (seen.item >= 0) if is_prefix_detached else None
        self.shape = tuple(pack.rows.shape)
        self.rows = pack.rows.clamp(min=0).reshape(-1)
        self.slots = pack.slots
        self.mask = _block_mask(pack)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See ``Attend``."""
        q, k, v = (
            _ToRows.apply(x, self.rows, self.slots).view(*self.shape, *x.shape[1:]).transpose(1, 2) for x in (q, k, v)
        )
        grouped = q.shape[1] != k.shape[1]
        flex = partial(_flex_attention(q.is_cuda), block_mask=self.mask, enable_gqa=grouped)
        out = flex(q, k, v) if self.noisy is None else _detached(flex, self.noisy, q, k, v)
        return _FromRows.apply(out.transpose(1, 2).flatten(0, 1), self.slots)


def _block_mask(pack: Pack) -> Any:
    """The same rule for flex-attention, block by block; on a GPU compiled, else all pairs are held while it is made."""
    from torch.nn.attention.flex_attention import create_block_mask

    item, visible, first, limit, causal = _by_slot(pack)

    def rule(r: Tensor, _: Tensor, i: Tensor, j: Tensor) -> Tensor:
        inside = (item[r, i] == item[r, j]) & (~causal[r, i] | (i >= j))
        return inside | ((visible[r, j] >= first[r, i]) & (visible[r, j] < limit[r, i]))

    rows, length = item.shape
    return create_block_mask(rule, rows, None, length, length, device=item.device, _compile=item.is_cuda)


@cache
def _flex_attention(compiled: bool) -> Any:
    """flex-attention; compiled where it pays (uncompiled it materialises the scores)."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention
