"""Unmixed: a canvas in terms of the palette, which colour and how much of it at every pixel."""

import numpy as np
from PIL import Image, ImageFilter

from .render import BACKGROUND, COLORS

NAMES = tuple(COLORS)
"""Palette names by index."""
_GROUND = np.array(BACKGROUND, np.float32)
_PALETTE = np.array([COLORS[name] for name in NAMES], np.float32)
_BARE = 10.0
"""Distance from the ground in RGB units below which a pixel is bare: 6 % of the palest colour."""


class Unmixed:
    """Every pixel on the line from the ground to the palette colour that explains it best.

    A pixel is ``ground + amount * (color - ground)``; for a given colour the amount is a projection, and
    the colour is the one with the smallest distance to its segment. At an amount of one half the
    contour is unbiased under blur, and anti-aliased rims keep their own colour.

    Args:
        image: uint8 (height, width, 3).
    """

    pixels: np.ndarray
    """The image, noise lightly smoothed: float32 (height, width, 3)."""
    border: np.ndarray
    """Median colour of the outermost pixels: float32 (3,)."""
    color: np.ndarray
    """Palette index, int64 (height, width)."""
    raw: np.ndarray
    """Amount, float32 (height, width); above 1 where a pixel lies beyond its colour."""
    soft: np.ndarray
    """Amount in [0, 1]."""

    def __init__(self, image: np.ndarray) -> None:
        noise = _noise(image)
        if noise > 6:  # a median filter would be worse than none: 98 % of objects instead of 100 % at 20
            blur = ImageFilter.GaussianBlur(0.6 if noise < 25 else 0.9)
            image = np.asarray(Image.fromarray(image).filter(blur))
        shape = image.shape[:2]
        self.pixels = image.astype(np.float32)
        self.border = _median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]))
        self._ground = self.border if np.abs(self.border - _GROUND).max() <= 60 else _GROUND
        self._lines = _PALETTE - self._ground
        self._lengths = (self._lines**2).sum(1)
        off = (self.pixels - self._ground).reshape(-1, 3)
        drawn = np.flatnonzero(np.einsum("ij,ij->i", off, off) > _BARE**2)
        amount = (off[drawn] @ self._lines.T) / self._lengths
        clipped = np.minimum(np.maximum(amount, 0), 1)
        error = self._lengths * clipped * (clipped - 2 * amount)  # squared distance less a constant
        best = error.argmin(1)
        color, raw = np.zeros(len(off), np.int64), np.zeros(len(off), np.float32)
        color[drawn] = best
        raw[drawn] = amount[np.arange(len(best)), best]
        self.color, self.raw = color.reshape(shape), raw.reshape(shape)
        self.soft = np.minimum(np.maximum(self.raw, 0), 1)

    def colors(self, labels: np.ndarray, num: int) -> np.ndarray:
        """Palette index of each label, int64 (num + 1,): nearest to the mean of its well-covered pixels.

        Args:
            labels: int (height, width), 0 for the ground.
            num: Largest label.
        """
        inside = np.flatnonzero(labels)
        owner, weight = labels.ravel()[inside], self.soft.ravel()[inside] ** 2
        weight = weight * weight
        pixels = self.pixels.reshape(-1, 3)[inside] - self._ground
        mass = np.bincount(owner, weight, num + 1) + 1e-9
        mean = np.stack([np.bincount(owner, weight * pixels[:, k], num + 1) for k in range(3)], 1) / mass[:, None]
        amount = np.clip((mean @ self._lines.T) / self._lengths, 0.3, 1.0)  # a blurred object never reaches 1
        off_line = ((mean[:, None] - amount[..., None] * self._lines) ** 2).sum(2)
        off_end = ((mean[:, None] - self._lines) ** 2).sum(2)
        return (off_line + 0.15 * off_end).argmin(1)

    def shares(self, labels: np.ndarray, num: int) -> np.ndarray:
        """How much of each label is of each colour, rims left out: float64 (num + 1, colours), rows sum to 1."""
        inside = np.flatnonzero(labels)
        key = labels.ravel()[inside] * len(NAMES) + self.color.ravel()[inside]
        weight = np.maximum(self.soft.ravel()[inside] - 0.4, 0)
        table = np.bincount(key, weight, (num + 1) * len(NAMES)).reshape(-1, len(NAMES))
        return table / (table.sum(1, keepdims=True) + 1e-9)


def _noise(image: np.ndarray) -> float:
    """Standard deviation of pixel noise: median absolute Laplacian of green over 0.6745 * sqrt(20)."""
    green = image[:, :, 1].astype(np.int16)
    around = green[:-2, 1:-1] + green[2:, 1:-1] + green[1:-1, :-2] + green[1:-1, 2:]
    flat = np.abs(green[1:-1, 1:-1] * 4 - around).ravel()
    return float(np.partition(flat, len(flat) // 2)[len(flat) // 2]) / 3.016


def _median(colors: np.ndarray) -> np.ndarray:
    return np.sort(colors, axis=0)[len(colors) // 2].astype(np.float32)
