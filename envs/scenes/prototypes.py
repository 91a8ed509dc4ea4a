"""What the shapes look like after normalisation: the detector's memory, made by the renderer itself.

A soft coverage patch is sampled on a 16 x 16 grid centred on its first moments and scaled by its
second, then made a zero-mean unit vector. Prototypes are such vectors of every shape at many radii
and blurs, so that a blurred star is compared with a blurred star: analytic templates turn every
shape into a circle at a blur of 2 px (64 % against 98 % of objects, measured).
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from .components import components, dilate
from .render import SHAPES, Object, coverage

_GRID, _EXTENT = 16, 2.3
_axis = np.linspace(-_EXTENT, _EXTENT, _GRID, dtype=np.float32)
_U, _V = (grid.ravel() for grid in np.meshgrid(_axis, _axis))

_RADII = (3.5, 4, 4.5, 5, 5.5, 6, 6.75, 7.5, 8.5, 9.5, 10.75, 12, 13.5, 15.25, 17.25, 20, 23, 27, 32)
"""Steps of about 12 %, in pixels: from the smallest shape that can be told to half of a 64 px canvas."""
_BLURS = (0.0, 0.6, 1.0, 1.25, 1.5, 1.75, 2.0)
"""Standard deviations in pixels: what codecs, rescaling and small models leave. Without 1.25 and 1.75,
5 % of the stars of radius 6 px are taken for circles after a blur of 1.5 (measured); with them 0.5 %."""
_BUCKETS, _LOWEST, _HIGHEST = 48, math.log(1.0), math.log(24.0)
_GATE = 0.16
"""Prototypes whose log spread differs by more are not compared (a small circle is no large one)."""


class Patch(NamedTuple):
    """A normalised patch."""

    x: float
    """Centroid in pixels of the patch, pixel ``k`` covering [k, k + 1]."""
    y: float
    spread: float
    """Root mean of the two second moments, in pixels."""
    vector: np.ndarray
    """float32 (256,), zero mean, unit norm."""


class Match(NamedTuple):
    """The nearest shape."""

    shape: str
    ncc: float
    """Cosine with its best prototype."""
    margin: float
    """How much better than the best prototype of any other shape."""


def normalise(soft: np.ndarray) -> Patch:
    """The normalised patch of a soft coverage, float32 (height, width) in [0, 1], not all zero."""
    height, width = soft.shape
    columns, rows = soft.sum(0), soft.sum(1)
    mass = float(columns.sum()) + 1e-9
    xs, ys = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    x, y = float(columns @ xs) / mass, float(rows @ ys) / mass
    variance = (float(columns @ (xs - x) ** 2) + float(rows @ (ys - y) ** 2)) / (2 * mass)
    spread = math.sqrt(max(variance, 1e-6))
    padded = np.zeros((height + 3, width + 3), np.float32)
    padded[1:-2, 1:-2] = soft
    u = np.clip(x + 1 + spread * _U, 0, width + 1.999)
    v = np.clip(y + 1 + spread * _V, 0, height + 1.999)
    column, row = u.astype(np.int32), v.astype(np.int32)
    fx, fy = u - column, v - row
    flat, index = padded.ravel(), row * (width + 3) + column
    upper = flat[index] * (1 - fx) + flat[index + 1] * fx
    index += width + 3
    lower = flat[index] * (1 - fx) + flat[index + 1] * fx
    vector = upper + (lower - upper) * fy
    vector = vector - vector.mean()
    vector /= math.sqrt(float(vector @ vector)) + 1e-9
    return Patch(x + 0.5, y + 0.5, spread, vector)


def match(patch: Patch) -> Match:
    """The shape whose prototypes of about the same spread are nearest to the patch."""
    bucket = (math.log(max(patch.spread, 0.5)) - _LOWEST) / (_HIGHEST - _LOWEST) * _BUCKETS
    vectors, offsets, shapes = _bank()[int(min(max(bucket, 0), _BUCKETS - 1))]
    best = np.maximum.reduceat(vectors @ patch.vector, offsets)
    winner = int(best.argmax())
    ncc = float(best[winner])
    best[winner] = -1.0
    return Match(shapes[winner], ncc, ncc - float(best.max()))


@functools.cache
def outline(shape: str) -> tuple[float, float, float]:
    """Centroid (x, y) and spread of the shape of radius 1, by sampling 600 x 600 points."""
    grid = ((np.arange(600) + 0.5) / 300 - 1) * 1.2
    x, y = np.meshgrid(grid, grid)
    inside = SHAPES[shape](x, y)
    x, y = x[inside], y[inside]
    return float(x.mean()), float(y.mean()), math.sqrt((x.var() + y.var()) / 2)


@functools.cache
def _bank() -> list[tuple[np.ndarray, np.ndarray, list[str]]]:
    """For every bucket of spread: vectors (n, 256), where each shape's begin, and the shapes."""
    rows: list[tuple[int, float, np.ndarray]] = []
    for index, shape in enumerate(SHAPES):
        for radius in _RADII:
            for blur in _BLURS[:: 2 if radius >= 12 else 1]:
                patches = [_drawn(shape, radius, blur, dx, dy) for dx, dy in _offsets(radius)]
                seen = [patch for patch in patches if patch is not None]
                if seen:
                    mean = np.mean([patch.vector for patch in seen], axis=0)
                    spread = float(np.mean([patch.spread for patch in seen]))
                    rows.append((index, spread, mean / np.linalg.norm(mean)))
    owner = np.array([row[0] for row in rows])
    log_spread = np.log([row[1] for row in rows])
    vectors = np.stack([row[2] for row in rows]).astype(np.float32)
    names = list(SHAPES)
    buckets = []
    for bucket in range(_BUCKETS):
        centre = _LOWEST + (bucket + 0.5) / _BUCKETS * (_HIGHEST - _LOWEST)
        distance = np.abs(log_spread - centre)
        near = distance < _GATE
        for index in range(len(names)):  # every shape keeps at least its nearest prototype
            own = np.nonzero(owner == index)[0]
            near[own[distance[own].argmin()]] = True
        chosen = np.nonzero(near)[0]
        present, offsets = np.unique(owner[chosen], return_index=True)
        buckets.append((np.ascontiguousarray(vectors[chosen]), offsets, [names[k] for k in present]))
    return buckets


def _offsets(radius: float) -> tuple[tuple[float, float], ...]:
    """Sub-pixel positions to average over; large shapes do not feel them."""
    return ((0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5)) if radius < 8 else ((0.25, 0.25),)


def _drawn(shape: str, radius: float, blur: float, dx: float, dy: float) -> Patch | None:
    """The patch of a rendered shape as the detector would cut it; ``None`` where nothing is left."""
    size = 2 * math.ceil(radius * 1.2 + 8)
    soft = np.zeros((size, size), np.float32)
    mask, rows, columns = coverage(Object(shape, "black", size / 2 + dx, size / 2 + dy, radius), size)
    soft[rows, columns] = mask
    if blur:
        picture = Image.fromarray(np.uint8(soft * 255 + 0.5)).filter(ImageFilter.GaussianBlur(blur))
        soft = np.asarray(picture, np.float32) / 255
    labels, found = components(soft >= 0.5)
    if not found:
        return None
    largest = max(found, key=lambda component: component.area)
    if largest.area < 6:
        return None
    grown = dilate(labels == largest.label)
    window = np.s_[largest.y0 - 1 : largest.y1 + 1, largest.x0 - 1 : largest.x1 + 1]
    return normalise((soft * grown)[window])
