"""Attention over the rows of a pack, with SDPA or flex-attention."""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .sequence import Pack, Visibility


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


def may_attend(pack: Pack) -> Tensor:
    """The rule of ``Visibility`` over the rows of a pack, bool (R, L, L): [r, i, j] = slot i may attend to slot j.

    Padding attends to padding only, so that no row of a softmax is empty.
    """
    item, visible, first, limit, causal = _by_slot(pack)
    column = torch.arange(item.shape[1], device=item.device)
    inside = (item[:, :, None] == item[:, None]) & (~causal[:, :, None] | (column[:, None] >= column))
    return inside | ((visible[:, None] >= first[:, :, None]) & (visible[:, None] < limit[:, :, None]))


class PackedAttention:
    """An ``Attend`` over a pack: every token sees what the packing says."""

    def __init__(self, pack: Pack, implementation: str = "sdpa") -> None:
        """Args:

        pack: What to attend over.
        implementation: ``"sdpa"`` or ``"flex_attention"``.
        """
        self.shape = tuple(pack.rows.shape)
        self.rows = pack.rows.clamp(min=0).reshape(-1)
        self.slots = pack.slots
        self.flex = implementation == "flex_attention"
        self.allowed = None if self.flex else may_attend(pack)
        self.mask: Any = _block_mask(pack) if self.flex else None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See ``Attend``."""
        q, k, v = (
            _ToRows.apply(x, self.rows, self.slots).view(*self.shape, *x.shape[1:]).transpose(1, 2) for x in (q, k, v)
        )
        grouped = q.shape[1] != k.shape[1]
        if self.allowed is None:
            out = _flex_attention(q.is_cuda)(q, k, v, block_mask=self.mask, enable_gqa=grouped)
        else:
            if self.mask is None or self.mask.dtype != q.dtype:  # a bool mask would be converted in every layer
                self.mask = torch.zeros(self.allowed.shape, dtype=q.dtype, device=q.device)
                self.mask = self.mask.masked_fill_(~self.allowed, float("-inf"))[:, None]
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, enable_gqa=grouped)
        return _FromRows.apply(out.transpose(1, 2).flatten(0, 1), self.slots)


def _block_mask(pack: Pack) -> Any:
    """The same rule for flex-attention, which never holds the whole mask."""
    from torch.nn.attention.flex_attention import create_block_mask

    item, visible, first, limit, causal = _by_slot(pack)

    def rule(r: Tensor, _: Tensor, i: Tensor, j: Tensor) -> Tensor:
        inside = (item[r, i] == item[r, j]) & (~causal[r, i] | (i >= j))
        return inside | ((visible[r, j] >= first[r, i]) & (visible[r, j] < limit[r, i]))

    rows, length = item.shape
    return create_block_mask(rule, rows, None, length, length, device=item.device)


@cache
def _flex_attention(compiled: bool) -> Any:
    """flex-attention; compiled where it pays (uncompiled it materialises the scores)."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention
