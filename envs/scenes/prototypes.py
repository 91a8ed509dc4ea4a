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


class Patches(NamedTuple):
    """Normalised patches."""

    x: np.ndarray
    """Centroids in pixels of the patch, pixel ``k`` covering [k, k + 1]: float64 (n,)."""
    y: np.ndarray
    spread: np.ndarray
    """Root mean of the two second moments, in pixels: float64 (n,)."""
    vectors: np.ndarray
    """float32 (n, 256), zero mean, unit norm."""


class Match(NamedTuple):
    """The nearest shape."""

    shape: str
    ncc: float
    """Cosine with its best prototype."""
    margin: float
    """How much better than the best prototype of any other shape."""


def normalise(soft: np.ndarray) -> Patches:
    """Normalised patches of soft coverages, float32 (n, height, width) in [0, 1], none all zero."""
    num, height, width = soft.shape
    columns, rows = soft.sum(1, dtype=np.float64), soft.sum(2, dtype=np.float64)
    mass = columns.sum(1) + 1e-9
    xs, ys = np.arange(width), np.arange(height)
    x, y = (columns @ xs) / mass, (rows @ ys) / mass
    variance = ((columns @ (xs * xs) + rows @ (ys * ys)) / mass - x * x - y * y) / 2
    spread = np.sqrt(np.maximum(variance, 1e-6))
    padded = np.zeros((num, height + 3, width + 3), np.float32)
    padded[:, 1:-2, 1:-2] = soft
    u = np.minimum(np.maximum(x[:, None] + 1 + spread[:, None] * _U, 0), width + 1.999).astype(np.float32)
    v = np.minimum(np.maximum(y[:, None] + 1 + spread[:, None] * _V, 0), height + 1.999).astype(np.float32)
    column, row = u.astype(np.int64), v.astype(np.int64)
    fx, fy = u - column, v - row
    flat, index = padded.ravel(), (np.arange(num)[:, None] * (height + 3) + row) * (width + 3) + column
    left = flat[index]
    upper = left + (flat[index + 1] - left) * fx
    index += width + 3
    left = flat[index]
    lower = left + (flat[index + 1] - left) * fx
    vectors = upper + (lower - upper) * fy
    vectors -= vectors.mean(1, keepdims=True)
    vectors /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None] + 1e-9
    return Patches(x + 0.5, y + 0.5, spread, vectors)


def match(spread: float, vector: np.ndarray) -> Match:
    """The shape whose prototypes of about the same spread are nearest to a normalised patch."""
    bucket = (math.log(max(spread, 0.5)) - _LOWEST) / (_HIGHEST - _LOWEST) * _BUCKETS
    vectors, offsets, shapes = _bank()[int(min(max(bucket, 0), _BUCKETS - 1))]
    best = np.maximum.reduceat(vectors @ vector, offsets)
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
                drawn = [_drawn(shape, radius, blur, dx, dy) for dx, dy in _offsets(radius)]
                patches = normalise(np.stack(drawn))
                mean = patches.vectors.mean(0)
                rows.append((index, float(patches.spread.mean()), mean / np.linalg.norm(mean)))
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


def _drawn(shape: str, radius: float, blur: float, dx: float, dy: float) -> np.ndarray:
    """The soft coverage of a rendered shape as the detector would cut it out: float32 (size, size)."""
    size = 2 * math.ceil(radius * 1.2 + 8)
    soft: np.ndarray = np.zeros((size, size), np.float32)
    mask, rows, columns = coverage(Object(shape, "black", size / 2 + dx, size / 2 + dy, radius), size)
    soft[rows, columns] = mask
    if blur:
        picture = Image.fromarray(np.uint8(soft * 255 + 0.5)).filter(ImageFilter.GaussianBlur(blur))
        soft = np.asarray(picture, np.float32) / 255
    labels, found = components(soft >= 0.5)
    if not found:  # thinner than the blur: nothing to cut along
        return soft
    return soft * dilate(labels == max(found, key=lambda component: component.area).label)
