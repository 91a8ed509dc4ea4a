"""Patches, grid positions, sinusoidal tables and the timestep embedding: what turns images into tokens."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def patchify(images: Tensor, patch: int) -> Tensor:
    """Cut images or latents into tokens: (B, C, h·P, w·P) to (B, h·w, P·P·C).

    Tokens run row by row; inside a token the order is (row, column, channel), channel fastest.
    """
    b, c, height, width = images.shape
    if height % patch or width % patch:
        raise ValueError(f"Expected height and width divisible by {patch}, got {(height, width)}; resize first.")
    x = images.reshape(b, c, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, patch * patch * c)


def unpatchify(tokens: Tensor, patch: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of ``patchify``: (B, h·w, P·P·C) and ``grid`` = (h, w) to (B, C, h·P, w·P)."""
    b, n, channels = tokens.shape
    h, w = grid
    if n != h * w:
        raise ValueError(f"Expected {h} x {w} = {h * w} tokens, got {n}.")
    x = tokens.reshape(b, h, w, patch, patch, channels // patch**2)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(b, -1, h * patch, w * patch)


@lru_cache(maxsize=256)
def _grid_ids(h: int, w: int, side: int, interpolate: bool) -> np.ndarray:
    if interpolate:
        bounds = np.arange(1, side, dtype=np.float32) / np.float32(side)
        # torch.bucketize(right=True) of i/n, i.e. the number of boundaries <= i/n
        rows, cols = (
            np.searchsorted(bounds, (np.arange(n, dtype=np.float32) / np.float32(n)), side="right") for n in (h, w)
        )
    else:
        rows, cols = np.arange(h), np.arange(w)
    ids = (rows[:, None] * side + cols[None, :]).reshape(-1).astype(np.int64)
    ids.setflags(write=False)
    return ids


def grid_position_ids(h: int, w: int, side: int, *, interpolate: bool = False) -> np.ndarray:
    """Rows of a side x side position table for the h·w patches of an image, row by row; int64 (h·w,), read-only.

    As in the official code there is no bounds check: an image wider than the table wraps to the next row.
    """
    return _grid_ids(h, w, side, interpolate)


def sincos_table(side: int, width: int) -> np.ndarray:
    """The frozen 2-D sinusoidal table, float32 (side², width); computed in float64.

    The first half of the channels encodes the column, the second the row; each half is
    ``[sin(v·ω_k)…, cos(v·ω_k)…]`` with ω_k = 10000^(-k / (width/4)).
    """
    omega = 10000.0 ** (-np.arange(width // 4, dtype=np.float64) / (width / 4))
    angles = np.arange(side, dtype=np.float64)[:, None] * omega
    line = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)  # (side, width/2)
    cols = np.broadcast_to(line[None], (side, side, width // 2))
    rows = np.broadcast_to(line[:, None], (side, side, width // 2))
    return np.concatenate([cols, rows], axis=2).reshape(side * side, width).astype(np.float32)


class PositionEmbedding(nn.Module):
    """A frozen sinusoidal table that is stored with the weights; loading replaces it by the stored one."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.side = side
        self.pos_embed = nn.Parameter(torch.empty(side * side, width), requires_grad=False)

    def reset(self) -> None:
        """Fill the table from its formula."""
        if not self.pos_embed.is_meta:
            self.pos_embed.copy_(torch.from_numpy(sincos_table(self.side, self.pos_embed.shape[1])))

    def forward(self, position_ids: Tensor) -> Tensor:
        """Rows of the table: int64 (T,) to (T, width)."""
        return self.pos_embed[position_ids]


class TimestepEmbedder(nn.Module):
    """A timestep in [0, 1] (never scaled by 1000) to a vector: sinusoid, linear, SiLU, linear."""

    FEATURES = 256
    """Width of the sinusoid (official)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(self.FEATURES, width), nn.SiLU(), nn.Linear(width, width))

    @classmethod
    def features(cls, t: Tensor) -> Tensor:
        """``[cos(t·f_j)…, sin(t·f_j)…]``, f_j = 10000^(-j/128): float (T,) to float32 (T, 256)."""
        half = cls.FEATURES // 2
        steps = torch.arange(half, dtype=torch.float32, device=t.device)
        args = t.float()[:, None] * torch.exp(-np.log(10000.0) * steps / half)
        return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)

    def forward(self, t: Tensor) -> Tensor:
        """Embed timesteps: float (T,) to (T, width)."""
        return self.mlp(self.features(t).to(next(self.mlp.parameters()).dtype))


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows of ``x`` by index; ``F.embedding``, because its backward is far faster on CPU than that of ``x[index]``."""
    return F.embedding(index, x)
