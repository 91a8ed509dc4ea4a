"""Pixels to objects, exactly enough: the mini-world's detector, in numpy and Pillow.

1. The ground is the median of the border; noise is measured and lightly smoothed.
2. Every pixel is unmixed into ground and one palette colour (``unmix.py``).
3. Connected components, split where two solid colours meet; colour from the weighted mean.
4. Shape by the nearest self-made prototype (``prototypes.py``).
5. Guards (``guards.py``): what does not look like a legal drawing becomes ``unknown``.

Images with a side above 128 px are first reduced by an integer factor to at most 128 px, which is
faster and loses nothing a flat shape could show; coordinates are given in the original pixels.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from .components import Component, components, core, dilate
from .detection import UNKNOWN, Detection
from .guards import guarded
from .prototypes import match, normalise, outline
from .unmix import NAMES, Unmixed

_LARGEST = 128
_SAME = 0.85
"""Least cosine with a prototype; below it a component is unknown. Measured: 99 % of legal objects stay above
.94 after JPEG 50 at 48 px, 95 % of letters below .75."""
_SURE = 0.985
_MARGIN = 2
"""Pixels around a component that its window shows: its rim and bare ground."""


def detect(image: np.ndarray) -> tuple[Detection, ...]:
    """The objects on a canvas, guards on, best first; answers are kept per image.

    Args:
        image: uint8 (height, width, 3), sides from 16 px.

    Returns:
        Known objects and whatever else stands out from the ground, as ``unknown`` with the guard's
        reason. A canvas whose border is not the ground is one unknown thing.

    Raises:
        ValueError: The image has another shape or dtype.
    """
    _check(image)
    key = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() + repr(image.shape).encode()
    found = _seen.get(key)
    if found is None:
        small, factor = _reduced(image)
        view = Unmixed(small)
        found = _scaled(guarded(view.pixels, view.border, _objects(view)), factor)
        _seen.put(key, found)
    return found


def raw_detect(image: np.ndarray) -> tuple[Detection, ...]:
    """As ``detect`` without guards and without memory: for measuring what the guards are worth."""
    _check(image)
    small, factor = _reduced(image)
    return _scaled(_objects(Unmixed(small)), factor)


class _Memory:
    """The last detections, least recently used first out. Detections only: images are not kept."""

    def __init__(self, limit: int) -> None:
        self._limit, self._items, self._lock = limit, OrderedDict[bytes, tuple[Detection, ...]](), threading.Lock()

    def get(self, key: bytes) -> tuple[Detection, ...] | None:
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: bytes, value: tuple[Detection, ...]) -> None:
        with self._lock:
            self._items[key] = value
            while len(self._items) > self._limit:
                self._items.popitem(last=False)


_seen = _Memory(8192)  # about 2 kB each


def _check(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"Expected image as a uint8 array (height, width, 3), got {got}.")
    if min(image.shape[:2]) < 16:
        raise ValueError(f"Expected image sides of at least 16 px, got {image.shape[:2]}.")


def _reduced(image: np.ndarray) -> tuple[np.ndarray, int]:
    """The image at a side of at most 128 px by box averaging, and the factor."""
    factor = -(-max(image.shape[:2]) // _LARGEST)
    if factor == 1:
        return image, 1
    return np.asarray(Image.fromarray(image).reduce(factor)), factor


def _scaled(found: tuple[Detection, ...], factor: int) -> tuple[Detection, ...]:
    if factor == 1:
        return found
    return tuple(
        replace(
            item,
            box=(item.box[0] * factor, item.box[1] * factor, item.box[2] * factor, item.box[3] * factor),
            center=(item.center[0] * factor, item.center[1] * factor),
            radius=item.radius * factor,
            area=item.area * factor**2,
        )
        for item in found
    )


class _Piece(NamedTuple):
    """A component, or a part of one that is of a single colour."""

    label: int
    area: int
    x0: int
    y0: int
    x1: int
    y1: int
    color: int | None = None
    """Palette index, where it was cut out by colour."""


def _objects(view: Unmixed) -> tuple[Detection, ...]:
    """Objects of a canvas of at most 128 px, best first."""
    height, width = view.raw.shape
    smallest = max(9.0, 0.0025 * height * width)
    labels, found = components(view.raw >= 0.5)
    pieces = _pieces(view, labels, [part for part in found if part.area >= smallest], smallest)
    if not pieces:
        return ()
    colors = view.colors(labels, max(piece.label for piece in pieces))
    patches = normalise(_windows(view.soft, labels, pieces))
    result = []
    for k, piece in enumerate(pieces):
        x, y = float(patches.x[k]) + piece.x0 - _MARGIN, float(patches.y[k]) + piece.y0 - _MARGIN
        color = int(colors[piece.label]) if piece.color is None else piece.color
        result.append(_object(piece, NAMES[color], x, y, float(patches.spread[k]), patches.vectors[k]))
    return tuple(sorted(result, key=lambda item: -item.score))


def _pieces(view: Unmixed, labels: np.ndarray, parts: list[Component], smallest: float) -> list[_Piece]:
    """Components, split where two solid colours meet; pieces get labels of their own."""
    if not parts:
        return []
    last = int(labels.max())
    many = (view.shares(labels, last) > 0.12).sum(1) > 1
    pieces: list[_Piece] = []
    for part in parts:
        cut = list(_split(view, labels, part)) if many[part.label] else []
        if len({color for color, _, _ in cut}) < 2:
            pieces.append(_Piece(*part))
            continue
        inside = labels[part.y0 : part.y1, part.x0 : part.x1]
        for color, mask, each in cut:
            if each.area >= smallest:
                last += 1
                inside[mask] = last
                x0, x1, y0, y1 = each.x0 + part.x0, each.x1 + part.x0, each.y0 + part.y0, each.y1 + part.y0
                pieces.append(_Piece(last, each.area, x0, y0, x1, y1, color))
    return pieces


def _split(view: Unmixed, labels: np.ndarray, part: Component) -> Iterator[tuple[int, np.ndarray, Component]]:
    """The parts of a component that are of one solid colour: colour, mask within its box, component."""
    window = np.s_[part.y0 : part.y1, part.x0 : part.x1]
    mask, color = labels[window] == part.label, view.color[window]
    for index in np.unique(color[mask]):
        own = mask & (color == index)
        if core(own) >= 2:
            inner, found = components(own)
            for each in found:
                yield int(index), inner == each.label, each


def _windows(soft: np.ndarray, labels: np.ndarray, pieces: list[_Piece]) -> np.ndarray:
    """The soft coverage of each piece, its rim included, in windows of one size: float32 (n, side, side)."""
    height, width = soft.shape
    side = max(max(piece.x1 - piece.x0, piece.y1 - piece.y0) for piece in pieces) + 2 * _MARGIN
    shape = (height + _MARGIN + side, width + _MARGIN + side)
    soft_p, labels_p = np.zeros(shape, np.float32), np.zeros(shape, labels.dtype)
    inner = np.s_[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width]
    soft_p[inner], labels_p[inner] = soft, labels
    corner = np.array([piece.y0 * shape[1] + piece.x0 for piece in pieces])
    steps = np.arange(side)
    index = corner[:, None, None] + steps[:, None] * shape[1] + steps
    mask = labels_p.ravel()[index] == np.array([piece.label for piece in pieces])[:, None, None]
    cut_out = np.array([piece.color is not None for piece in pieces])[:, None, None]
    return soft_p.ravel()[index] * np.where(cut_out, mask, dilate(mask))


def _object(piece: _Piece, color: str, x: float, y: float, spread: float, vector: np.ndarray) -> Detection:
    best, box, area = match(spread, vector), piece[2:6], float(piece.area)
    if best.ncc < _SAME:
        radius = max(box[2] - box[0], box[3] - box[1]) / 2
        return Detection(
            shape=UNKNOWN, color=color, score=0.0, box=box, center=(x, y), radius=radius, area=area, ncc=best.ncc,
            fault="shape",
        )  # fmt: skip
    dx, dy, unit = outline(best.shape)
    radius = spread / unit
    score = min((best.ncc - _SAME) / (_SURE - _SAME), 1.0) * min(1.0, 0.5 + best.margin / 0.02)
    return Detection(
        shape=best.shape, color=color, score=score, box=box, center=(x - dx * radius, y - dy * radius), radius=radius,
        area=area, ncc=best.ncc,
    )  # fmt: skip
