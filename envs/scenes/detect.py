"""Pixels to objects, exactly enough: the mini-world's detector, in numpy and Pillow.

1. The ground is the median of the border; noise is measured and lightly smoothed.
2. Every pixel is unmixed on the line from the ground to the palette colour that explains it best;
   its coverage on that line decides: at one half the contour is unbiased under blur, and
   anti-aliased rims keep their own colour.
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

import numpy as np
from PIL import Image, ImageFilter

from .components import Component, components, core, dilate
from .detection import UNKNOWN, Detection
from .guards import border_color, guarded
from .prototypes import match, normalise, outline
from .render import BACKGROUND, COLORS

_LARGEST = 128
_SAME = 0.85
"""Least cosine with a prototype; below it a component is unknown (measured: the hardest legal rows
stay above .9, text and scribbles below .8)."""
_SURE = 0.985
_NAMES = tuple(COLORS)
_GROUND = np.array(BACKGROUND, np.float32)
_PALETTE = np.array([COLORS[name] for name in _NAMES], np.float32)


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
    key = hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest() + repr(image.shape).encode()
    found = _seen.get(key)
    if found is None:
        small, factor = _reduced(image)
        view = _View(small)
        found = _scaled(guarded(view.pixels, _objects(view)), factor)
        _seen.put(key, found)
    return found


def raw_detect(image: np.ndarray) -> tuple[Detection, ...]:
    """As ``detect`` without guards and without memory: for measuring what the guards are worth."""
    _check(image)
    small, factor = _reduced(image)
    return _scaled(_objects(_View(small)), factor)


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


def _noise(image: np.ndarray) -> float:
    """Standard deviation of pixel noise: median absolute Laplacian of green over 0.6745 * sqrt(20)."""
    green = image[:, :, 1].astype(np.int16)
    around = green[:-2, 1:-1] + green[2:, 1:-1] + green[1:-1, :-2] + green[1:-1, 2:]
    return float(np.median(np.abs(green[1:-1, 1:-1] * 4 - around))) / 3.016


class _View:
    """A canvas of at most 128 px in terms of the palette: which colour, and how much of it, at every pixel."""

    def __init__(self, image: np.ndarray) -> None:
        noise = _noise(image)
        if noise > 6:  # a median filter would be worse than none: 98 % of objects instead of 100 % at 20
            blur = ImageFilter.GaussianBlur(0.6 if noise < 25 else 0.9)
            image = np.asarray(Image.fromarray(image).filter(blur))
        self.pixels = image.astype(np.float32)
        self.ground = border_color(image)
        if np.abs(self.ground - _GROUND).max() > 60:
            self.ground = _GROUND
        self.lines = _PALETTE - self.ground
        self.lengths = (self.lines**2).sum(1)
        amount = ((self.pixels - self.ground).reshape(-1, 3) @ self.lines.T) / self.lengths
        clipped = np.minimum(np.maximum(amount, 0), 1)
        error = self.lengths * clipped * (clipped - 2 * amount)  # squared distance less a constant
        best = error.argmin(1)
        self.color = best.reshape(image.shape[:2])
        self.raw = amount[np.arange(len(best)), best].reshape(image.shape[:2])
        self.soft = np.minimum(np.maximum(self.raw, 0), 1)


def _objects(view: _View) -> tuple[Detection, ...]:
    """Objects of an image of at most 128 px, best first."""
    height, width = view.raw.shape
    smallest = max(9.0, 0.0025 * height * width)
    labels, found = components(view.raw >= 0.5)
    result = []
    for part in found:
        if part.area < smallest:
            continue
        window = np.s_[max(0, part.y0 - 2) : part.y1 + 2, max(0, part.x0 - 2) : part.x1 + 2]
        for mask, color in _split(view, labels, part, window, smallest):
            result.append(_object(view, mask, color, window))
    return tuple(sorted(result, key=lambda item: -item.score))


def _split(
    view: _View, labels: np.ndarray, part: Component, window: tuple[slice, slice], smallest: float
) -> Iterator[tuple[np.ndarray, int | None]]:
    """A component as masks with a colour each; the colour is ``None`` where it need not be split."""
    mask, color = labels[window] == part.label, view.color[window]
    weight = np.maximum(view.soft[window] - 0.4, 0) * mask
    share = np.bincount(color.ravel(), weights=weight.ravel(), minlength=len(_NAMES))
    many = np.nonzero(share > 0.12 * share.sum())[0]
    solid = [int(c) for c in many if core(mask & (color == c)) >= 2] if len(many) > 1 else []
    if len(solid) < 2:
        yield mask, None
        return
    for c in solid:
        inner, pieces = components(mask & (color == c))
        for piece in pieces:
            if piece.area >= smallest:
                yield inner == piece.label, c


def _object(view: _View, mask: np.ndarray, color: int | None, window: tuple[slice, slice]) -> Detection:
    soft = view.soft[window]
    coverage = soft * (dilate(mask) if color is None else mask)
    patch, top, left = normalise(coverage), window[0].start, window[1].start
    best = match(patch)
    if color is None:
        color = _color(view, view.pixels[window], soft * mask)
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    box = (int(columns[0]) + left, int(rows[0]) + top, int(columns[-1]) + 1 + left, int(rows[-1]) + 1 + top)
    area, x, y = float(mask.sum()), patch.x + left, patch.y + top
    if best.ncc < _SAME:
        radius = max(box[2] - box[0], box[3] - box[1]) / 2
        return Detection(
            shape=UNKNOWN, color=_NAMES[color], score=0.0, box=box, center=(x, y), radius=radius, area=area,
            ncc=best.ncc, fault="shape",
        )  # fmt: skip
    dx, dy, spread = outline(best.shape)
    radius = patch.spread / spread
    score = min((best.ncc - _SAME) / (_SURE - _SAME), 1.0) * min(1.0, 0.5 + best.margin / 0.02)
    return Detection(
        shape=best.shape, color=_NAMES[color], score=score, box=box, center=(x - dx * radius, y - dy * radius),
        radius=radius, area=area, ncc=best.ncc,
    )  # fmt: skip


def _color(view: _View, pixels: np.ndarray, coverage: np.ndarray) -> int:
    """Palette index nearest to the mean of the well-covered pixels, allowing for a blurred-out core."""
    weight = (coverage**3).ravel()
    mean = (weight @ pixels.reshape(-1, 3)) / (float(weight.sum()) + 1e-9) - view.ground
    amount = np.clip(view.lines @ mean / view.lengths, 0.3, 1.0)
    off_line = ((mean - amount[:, None] * view.lines) ** 2).sum(1)
    off_end = ((mean - view.lines) ** 2).sum(1)
    return int((off_line + 0.15 * off_end).argmin())
