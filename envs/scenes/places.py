"""Places and boxes: the nine cells of a canvas, what fits where, and GenEval's relations."""

import functools
import math
from collections.abc import Sequence

import numpy as np

from .render import SHAPES, Object

PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
"""Names of the nine cells of the 3 x 3 partition of the canvas, in reading order."""
DEAD_ZONE = 0.1
"""GenEval's position threshold."""
_NOWHERE = 1e-3
"""Pixels: what is not farther off than that, along both axes, is in no relation; GenEval's."""

Box = tuple[float, float, float, float]


def cell_of(x: float, y: float, size: int) -> int:
    """The cell 0 … 8 of the 3 x 3 partition in which a point lies."""
    column, row = (min(2, max(0, int(3 * value / size))) for value in (x, y))
    return 3 * row + column


@functools.cache
def extent(shape: str) -> Box:
    """Left, top, right and bottom end of a shape of radius 1 around its centre."""
    axis = np.linspace(-1.25, 1.25, 1001)
    ys, xs = np.nonzero(SHAPES[shape](*np.meshgrid(axis, axis)))
    return float(axis[xs.min()]), float(axis[ys.min()]), float(axis[xs.max()]), float(axis[ys.max()])


def box_of(item: Object) -> Box:
    """Left, top, right and bottom of an object in pixels; a detected box is less than a pixel off, two at thin tips."""
    left, top, right, bottom = extent(item.shape)
    r = item.radius
    return item.x + left * r, item.y + top * r, item.x + right * r, item.y + bottom * r


def relative_position(
    box_a: Sequence[float], box_b: Sequence[float], margin: float = 0.0, dead_zone: float = DEAD_ZONE
) -> set[str]:
    """GenEval's box rule: the relations of a to b that hold; y grows downwards.

    With centres c and extents d: ``rev = max(|c_a - c_b| - 0.1 (d_a + d_b), 0)`` per axis with its sign; a relation
    holds where the component of ``rev / ‖c_a - c_b‖`` passes ½. Near the diagonal two relations can hold. In single
    precision, as the benchmark computes it, which decides at the edges.

    Args:
        box_a: Left, top, right, bottom.
        box_b: The box that a is placed relative to.
        margin: Added to the threshold of ½, so that the relation survives errors of a pixel.
        dead_zone: GenEval's position threshold, 0.1 above.
    """
    bound = 0.5 + margin
    left_a, top_a, right_a, bottom_a = map(float, box_a[:4])
    left_b, top_b, right_b, bottom_b = map(float, box_b[:4])
    x, y = (left_a + right_a - left_b - right_b) / 2, (top_a + bottom_a - top_b - bottom_b) / 2
    rev_x = abs(x) - dead_zone * (abs(right_a - left_a) + abs(right_b - left_b))
    rev_y = abs(y) - dead_zone * (abs(bottom_a - top_a) + abs(bottom_b - top_b))
    # More than all roundings of single precision come to: what is farther from the edges is decided without them.
    total = sum(map(abs, (left_a, top_a, right_a, bottom_a, left_b, top_b, right_b, bottom_b)))
    error = 2e-6 * (1 + dead_zone) * total
    if bound > 0 and error < 1e9:  # neither NaN nor too large for a square in single precision
        if max(rev_x, rev_y) < _NOWHERE - error:
            return set()
        edge = bound * (norm := math.hypot(x, y))
        slack = (1 + bound) * (error + 1e-6 * norm)
        if max(rev_x, rev_y) > _NOWHERE + error and abs(rev_x - edge) > slack and abs(rev_y - edge) > slack:
            across = {"left of" if x < 0 else "right of"} if rev_x > edge else set()
            return across | ({"above" if y < 0 else "below"} if rev_y > edge else set())
    return _in_single_precision(box_a, box_b, bound, dead_zone)


def _in_single_precision(box_a: Sequence[float], box_b: Sequence[float], bound: float, dead_zone: float) -> set[str]:
    """The rule as the benchmark computes it; numpy takes its time for so few numbers."""
    boxes = np.array([box_a[:4], box_b[:4]], np.float32)
    low, high = boxes[:, :2], boxes[:, 2:]
    centers, sizes = (low + high) / 2, np.abs(high - low)
    off = centers[0] - centers[1]
    rev = np.maximum(np.abs(off) - dead_zone * (sizes[0] + sizes[1]), 0) * np.sign(off)
    if (np.abs(rev) < _NOWHERE).all():
        return set()
    dx, dy = rev / np.linalg.norm(off)
    holds = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}
    return {rel for rel, value in holds.items() if value > bound}


def cells_hold(rel: str, cell_a: int, cell_b: int) -> bool:
    """Whether objects in the centres of two cells hold a relation (diagonals hold two)."""
    (row_a, col_a), (row_b, col_b) = divmod(cell_a, 3), divmod(cell_b, 3)
    across, down = col_b - col_a, row_b - row_a
    along, aside = {
        "left of": (across, down), "right of": (-across, down), "above": (down, across), "below": (-down, across),
    }[rel]  # fmt: skip
    return along > 0 and along >= abs(aside)


def apart(a: Object, b: Object, gap: float = 0.0) -> bool:
    """Whether the boxes of two objects are at least ``gap`` pixels apart."""
    p, q = box_of(a), box_of(b)
    return max(p[0] - q[2], q[0] - p[2], p[1] - q[3], q[1] - p[3]) >= gap
