"""What keeps the detector honest: only what a legal drawing could show counts as an object.

Without guards a canvas of one random colour is a "square" in 86 % of cases and noise holds an accepted
object in 60 %, with them neither ever does (measured). The guards: the border is the ground, an object
is at most 55 % of the canvas wide, and its re-rendering explains its pixels, more so in a corner, where
it may be the rest of something cut off.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from .detection import UNKNOWN, Detection
from .render import BACKGROUND, Object, Scene, render

_GROUND = np.array(BACKGROUND, np.float32)
_OFF_GROUND = 40.0
"""Largest difference of a channel between border and ground."""
_WIDEST = 0.55
"""Largest side of an object over the canvas'."""
_FAINTEST = 0.15
"""Least confidence."""
_EXPLAINED = 0.60
"""Least 1 - |image - re-render|² / |re-render - ground|² around an object."""
_EXPLAINED_CORNER = 0.80
"""The same for an object that touches two borders: legal drawings can, and reach .81 at a blur of 1.5 px."""


def guarded(pixels: np.ndarray, border: np.ndarray, found: Sequence[Detection]) -> tuple[Detection, ...]:
    """The detections, with each one that a guard rejects made ``unknown``.

    Args:
        pixels: What was looked at, noise smoothed: float32 (height, width, 3), sides of at most 128 px.
        border: Median colour of its border, float32 (3,).
        found: What was found in it, in its pixels.
    """
    height, width = pixels.shape[:2]
    if np.abs(border - _GROUND).max() > _OFF_GROUND:
        whole = Detection(
            shape=UNKNOWN, color="black", score=0.0, box=(0, 0, width, height), center=(width / 2, height / 2),
            radius=max(width, height) / 2, area=float(width * height), ncc=0.0, fault="border",
        )  # fmt: skip
        return (whole,)
    checked = [_placed(item, width, height) for item in found]
    again = rerender(checked, (height, width)).astype(np.float32)
    return tuple(sorted((_explained(item, pixels, again) for item in checked), key=lambda item: -item.score))


def rerender(found: Sequence[Detection], shape: tuple[int, int]) -> np.ndarray:
    """The known objects drawn anew: uint8 (height, width, 3)."""
    objects = tuple(
        Object(
            item.shape, item.color, _quarter(item.center[0]), _quarter(item.center[1]), max(2.0, _quarter(item.radius))
        )
        for item in found
        if item.shape != UNKNOWN
    )
    return render(Scene(objects, max(shape)))[: shape[0], : shape[1]]


def realism(image: np.ndarray, found: Sequence[Detection]) -> float:
    """How much the image looks like a drawing of what was found in it: PSNR of the re-render in dB, at most 60.

    60 on the renderer's own images, 21.8 after a blur of 2 px, 24.8 under noise of 20 (measured).
    Images above 128 px are compared at the reduced size at which they are looked at.
    """
    factor = -(-max(image.shape[:2]) // 128)
    if factor > 1:
        image = np.asarray(Image.fromarray(image).reduce(factor))
        found = [
            replace(item, center=(item.center[0] / factor, item.center[1] / factor), radius=item.radius / factor)
            for item in found
        ]
    difference = image.astype(np.float32) - rerender(found, image.shape[:2])
    error = float((difference**2).mean()) / 255**2
    return min(60.0, -10 * math.log10(max(error, 1e-9)))


def _quarter(value: float) -> float:
    return round(value * 4) / 4


def _placed(item: Detection, width: int, height: int) -> Detection:
    """The detection, unknown where it is unlikely or too large."""
    if item.shape == UNKNOWN:
        return item
    x0, y0, x1, y1 = item.box
    if item.score <= _FAINTEST:
        fault = "shape"
    elif max((x1 - x0) / width, (y1 - y0) / height) > _WIDEST:
        fault = "size"
    else:
        return item
    return replace(item, shape=UNKNOWN, score=0.0, fault=fault)


def _explained(item: Detection, pixels: np.ndarray, again: np.ndarray) -> Detection:
    """The detection, unknown where its re-rendering is too far from what is there."""
    if item.shape == UNKNOWN:
        return item
    x0, y0, x1, y1 = item.box
    window = np.s_[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2]
    error = float(((pixels[window] - again[window]) ** 2).sum())
    contrast = float(((again[window] - _GROUND) ** 2).sum())
    height, width = again.shape[:2]
    corner = (x0 <= 0) + (y0 <= 0) + (x1 >= width) + (y1 >= height) > 1
    explained = 1 - error / (contrast + 1e-9)
    if explained >= (_EXPLAINED_CORNER if corner else _EXPLAINED):
        return item
    return replace(item, shape=UNKNOWN, score=0.0, fault="cut off" if corner else "re-render")
