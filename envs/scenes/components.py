"""Connected components of a mask, without scipy: runs of every row, joined by union-find."""

from typing import NamedTuple

import numpy as np


class Component(NamedTuple):
    """One 8-connected component."""

    label: int
    """Its value in the label image, from 1."""
    area: int
    """Number of pixels."""
    x0: int
    y0: int
    x1: int
    """Exclusive."""
    y1: int
    """Exclusive."""


def components(mask: np.ndarray) -> tuple[np.ndarray, list[Component]]:
    """8-connected components of a mask.

    Args:
        mask: bool (height, width).

    Returns:
        The label image, int32 (height, width) with 0 for the ground, and the components in raster
        order of their first pixel.
    """
    height, width = mask.shape
    labels = np.zeros((height, width), np.int32)
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    step = np.diff(padded, axis=1)
    rows, starts = np.nonzero(step == 1)
    _, ends = np.nonzero(step == -1)
    if not len(rows):
        return labels, []
    row, start, end = rows.tolist(), starts.tolist(), ends.tolist()
    first = np.searchsorted(rows, np.arange(height + 1)).tolist()
    found: list[list[int]] = []
    names: dict[int, int] = {}
    for y, x0, x1, root in zip(row, start, end, _join(first, start, end), strict=True):
        name = names.get(root)
        if name is None:
            name = names[root] = len(found)
            found.append([x1 - x0, x0, y, x1, y + 1])
        else:
            box = found[name]
            box[0] += x1 - x0
            box[4] = y + 1
            if x0 < box[1]:
                box[1] = x0
            if x1 > box[3]:
                box[3] = x1
        labels[y, x0:x1] = name + 1
    return labels, [Component(name + 1, *box) for name, box in enumerate(found)]


def _join(first: list[int], start: list[int], end: list[int]) -> list[int]:
    """Root of every run: runs of neighbouring rows that touch, also diagonally, have the same root."""
    parent = list(range(len(start)))
    for y in range(1, len(first) - 1):
        above, below = first[y - 1], first[y]
        last_above, last_below = first[y], first[y + 1]
        while above < last_above and below < last_below:
            if start[above] <= end[below] and start[below] <= end[above]:
                a, b = above, below
                while parent[a] != a:
                    a = parent[a]
                while parent[b] != b:
                    b = parent[b]
                parent[above] = parent[below] = parent[a] = parent[b] = min(a, b)
            if end[above] < end[below]:
                above += 1
            else:
                below += 1
    for run in range(len(parent)):  # parents come before their runs
        parent[run] = parent[parent[run]]
    return parent


def dilate(mask: np.ndarray) -> np.ndarray:
    """Masks grown by one pixel in the four axis directions: bool (…, height, width)."""
    grown = mask.copy()
    grown[..., 1:, :] |= mask[..., :-1, :]
    grown[..., :-1, :] |= mask[..., 1:, :]
    grown[..., 1:] |= mask[..., :-1]
    grown[..., :-1] |= mask[..., 1:]
    return grown


def core(mask: np.ndarray) -> int:
    """Number of pixels whose whole 3 x 3 neighbourhood is in the mask."""
    padded = np.pad(mask, 1).astype(np.int8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return int(((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) == 9).sum())
