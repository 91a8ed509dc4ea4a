"""Layouts: scenes that satisfy a graph.

Renderer and detector take any layout. The painter's own habit is a jittered 3 x 3 grid with one object per
cell, because small models learn it (a 2.7 M-parameter model draws single edits there in minutes of
training); ``free=True`` places objects anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .graph import Graph
from .places import PLACES, apart, box_of, cell_of, cells_hold, extent, relative_position
from .render import COLORS, SIZE, Object, Scene

RADIUS = (5.5, 6.75)
"""Smallest and largest radius in pixels on a canvas of 48 px; scaled with the canvas."""
JITTER = 1.0
"""Largest offset of an object from the centre of its cell in pixels at 48 px, per axis."""
GAP = 1.0
"""Smallest distance between the boxes of two objects in pixels at 48 px."""
MAX_OBJECTS = 6
"""Most objects of a scene: with six of the nine cells taken, relations still find room."""
MARGIN = 0.05
"""By how much relations in a layout pass GenEval's threshold of one half, to survive errors of a pixel."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A scene in reading order, and where its objects come from."""

    scene: Scene
    cells: tuple[int, ...]
    """Cell of each object, 0 … 8 in reading order (``PLACES``)."""
    nodes: tuple[int, ...]
    """Id of the graph's node that each object belongs to."""


def feasible(graph: Graph) -> bool:
    """Whether the 3 x 3 grid has room for a graph: at most six objects, and cells that hold all relations."""
    return graph.total <= MAX_OBJECTS and _assign(graph, None, {}) is not None


def sample_layout(
    graph: Graph,
    rng: np.random.Generator,
    size: int = SIZE,
    *,
    free: bool = False,
    jitter: float = JITTER,
    radius: tuple[float, float] = RADIUS,
    kept: Sequence[tuple[Object, int]] = (),
    prefer: Sequence[int] = (),
) -> Layout:
    """A scene with exactly the objects of a graph, relations held with a margin.

    Args:
        graph: Open colours are drawn at random, one for each object.
        rng: The only source of randomness.
        size: Side of the canvas in pixels.
        free: Anywhere on the canvas instead of one object per cell.
        jitter: Largest offset from a cell's centre in pixels at 48 px.
        radius: Range of the radius in pixels at 48 px.
        kept: Objects that are there already, with the ids of their nodes; they stay as they are (grid only).
        prefer: Cells to take first for objects without relations (grid only).

    Raises:
        ValueError: More than six objects, relations that do not fit on the canvas, or kept objects in the way.
    """
    if not feasible(graph):
        raise ValueError(f"Expected at most {MAX_OBJECTS} objects whose relations fit on a 3 x 3 grid, got {graph!r}.")
    there = [obj for obj, _ in kept]
    ids = [id for _, id in kept]
    cells = {id: [cell_of(o.x, o.y, size) for o, other in kept if other == id] for id in ids}
    lacking = [node for node in graph.nodes for _ in range(node.count - ids.count(node.id))]
    names = [(node.shape, node.color or _pick(rng, tuple(COLORS)), node.id) for node in lacking]
    for _ in range(200):
        if free:
            spots = _scatter(graph, names, rng, size, radius)
        else:
            spots = _on_grid(graph, names, there, cells, prefer, rng, size, jitter, radius)
        if spots is None:
            continue
        objects = there + [Object(name[0], name[1], *spot) for name, spot in zip(names, spots, strict=True)]
        owners = ids + [name[2] for name in names]
        if _relations_hold(graph, dict(zip(owners, objects, strict=True)), margin=0.0 if kept else MARGIN):
            return _ordered(objects, owners, size)
    raise ValueError(f"Expected a graph that fits on a canvas of {size} px, got {graph!r} beside {there!r}.")


def place(
    shape: str, cell: int, rng: np.random.Generator, size: int = SIZE, others: Sequence[Object] = (), *,
    jitter: float = JITTER, radius: tuple[float, float] = RADIUS,
) -> tuple[float, float, float]:  # fmt: skip
    """Centre and radius of a new object in a cell, inside the canvas and apart from ``others``."""
    scale = size / 48
    row, column = divmod(cell, 3)
    for attempt in range(50):
        ease = 1 - attempt / 50  # less jitter where a neighbour is close
        r = _quarter(rng.uniform(radius[0], radius[0] + ease * (radius[1] - radius[0])) * scale)
        x, y = (_quarter((k + 0.5) * size / 3 + rng.uniform(-jitter, jitter) * scale * ease) for k in (column, row))
        x, y = _inside(x, y, shape, r, size)
        candidate = Object(shape, "black", x, y, r)
        if all(apart(candidate, other, GAP * scale) for other in others):
            break
    return x, y, r


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _quarter(value: float) -> float:
    return round(value * 4) / 4


def _inside(x: float, y: float, shape: str, r: float, size: int) -> tuple[float, float]:
    """The point moved so far that the whole object is on the canvas."""
    left, top, right, bottom = (r * value for value in extent(shape))
    return min(max(x, _up(-left)), _down(size - right)), min(max(y, _up(-top)), _down(size - bottom))


def _up(value: float) -> float:
    return -((-value * 4) // 1) / 4


def _down(value: float) -> float:
    return (value * 4) // 1 / 4


def _assign(
    graph: Graph, rng: np.random.Generator | None, kept: Mapping[int, Sequence[int]], prefer: Sequence[int] = ()
) -> list[int] | None:
    """A cell for each object that is not kept (nodes in order, counts expanded) such that all relations hold.

    Args:
        graph: What to place.
        rng: Shuffles the cells anew at each depth of the search; without it they come in order.
        kept: Cells already taken by the objects of a node.
        prefer: Cells that objects without relations take first.

    Returns:
        ``None`` where that is impossible.
    """
    taken = [cell for cells in kept.values() for cell in cells]
    open_cells = [cell for cell in range(9) if cell not in taken]
    if graph.total - len(taken) > len(open_cells):
        return None
    found = {id: cells[0] for id, cells in kept.items() if graph.node(id).count == 1}
    related = [id for id in graph.linear_extension([edge.src for edge in graph.edges]) if id not in found]

    def search(k: int) -> bool:
        edges = [edge for edge in graph.edges if edge.src in found and edge.dst in found]
        if not all(cells_hold(edge.rel, found[edge.src], found[edge.dst]) for edge in edges):
            return False
        if k == len(related):
            return True
        for cell in _shuffled(open_cells, rng):
            if cell not in found.values():
                found[related[k]] = cell
                if search(k + 1):
                    return True
                del found[related[k]]
        return False

    if not search(0):
        return None
    free = [cell for cell in _shuffled(open_cells, rng) if cell not in found.values()]
    left = iter(sorted(free, key=lambda cell: cell not in prefer))
    return [
        found[node.id] if node.id in related else next(left)
        for node in graph.nodes
        for _ in range(node.count - len(kept.get(node.id, ())))
    ]


def _shuffled(cells: Sequence[int], rng: np.random.Generator | None) -> Sequence[int]:
    return cells if rng is None else [cells[int(k)] for k in rng.permutation(len(cells))]


def _on_grid(
    graph: Graph,
    names: Sequence[tuple[str, str, int]],
    there: Sequence[Object],
    kept: Mapping[int, Sequence[int]],
    prefer: Sequence[int],
    rng: np.random.Generator,
    size: int,
    jitter: float,
    radius: tuple[float, float],
) -> list[tuple[float, float, float]] | None:
    cells = _assign(graph, rng, kept, prefer)
    if cells is None:
        return None
    done = list(there)
    for (shape, color, _), cell in zip(names, cells, strict=True):
        item = Object(shape, color, *place(shape, cell, rng, size, done, jitter=jitter, radius=radius))
        if not all(apart(item, other, GAP * size / 48) for other in done):
            return None
        done.append(item)
    return [(item.x, item.y, item.radius) for item in done[len(there) :]]


def _scatter(
    graph: Graph,
    names: Sequence[tuple[str, str, int]],
    rng: np.random.Generator,
    size: int,
    radius: tuple[float, float],
) -> list[tuple[float, float, float]] | None:
    done: list[Object] = []
    for shape, color, id in names:
        for _ in range(60):  # tries for one object before the whole scene is begun anew
            r = _quarter(rng.uniform(*radius) * size / 48)
            left, top, right, bottom = (r * value for value in extent(shape))
            x, y = (_quarter(rng.uniform(-low, size - high)) for low, high in ((left, right), (top, bottom)))
            item = Object(shape, color, *_inside(x, y, shape, r, size), r)
            near = {name[2]: other for name, other in zip(names, done, strict=False)} | {id: item}
            clear = all(apart(item, other, 2 * GAP * size / 48) for other in done)
            if clear and _relations_hold(graph, near, MARGIN):
                done.append(item)
                break
        else:
            return None
    return [(item.x, item.y, item.radius) for item in done]


def _relations_hold(graph: Graph, objects: Mapping[int, Object], margin: float) -> bool:
    """Whether the relations between the objects that are there hold."""
    return all(
        edge.rel in relative_position(box_of(objects[edge.src]), box_of(objects[edge.dst]), margin)
        for edge in graph.edges
        if edge.src in objects and edge.dst in objects
    )


def _ordered(objects: Sequence[Object], ids: Sequence[int], size: int) -> Layout:
    cells = [cell_of(item.x, item.y, size) for item in objects]
    order = sorted(range(len(objects)), key=lambda k: (cells[k], objects[k].y, objects[k].x))
    return Layout(
        Scene(tuple(objects[k] for k in order), size), tuple(cells[k] for k in order), tuple(ids[k] for k in order)
    )


__all__ = [
    "GAP", "JITTER", "MARGIN", "MAX_OBJECTS", "PLACES", "RADIUS", "Layout", "box_of", "cell_of", "cells_hold",
    "feasible", "place", "relative_position", "sample_layout",
]  # fmt: skip
