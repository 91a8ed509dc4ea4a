"""The painter's hand: carries out edits on a canvas it knows object by object, and spoils it on purpose."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..envs.scenes.changes import Edit, Thing, apply, compare
from ..envs.scenes.layout import place
from ..envs.scenes.places import apart, cell_of
from ..envs.scenes.render import BACKGROUND, COLORS, SHAPES, Object, Scene, render

SPOILS = ("color", "shape", "place", "missing", "extra", "blend")
"""Ways to get a sketch wrong; "blend" is a half-finished or damaged shape, as small models
draw it, and counts for what the detector takes it for."""
BLEND = (0.4, 0.75)
"""Share of the wrong image in a blend."""
PLAIN = "black"
"""Colour of what is drawn where no colour is said."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing on a canvas, as words name it and as it is drawn."""

    thing: Thing
    item: Object | None
    """``None``: a blot that cannot be drawn again."""


Canvas = tuple[Mark, ...]


def mark(item: Object, size: int) -> Mark:
    """The mark of a clean object."""
    return Mark(Thing(item.shape, item.color, cell_of(item.x, item.y, size)), item)


def things(canvas: Sequence[Mark]) -> tuple[Thing, ...]:
    """The state of a canvas."""
    return tuple(each.thing for each in canvas)


def scene_of(canvas: Sequence[Mark], size: int) -> Scene:
    """What can be drawn again, blots left out."""
    return Scene(tuple(each.item for each in canvas if each.item is not None), size)


def see(image: np.ndarray) -> Canvas:
    """The marks that the detector finds on a canvas."""
    from ..envs.scenes.detect import detect  # builds its prototypes on first use

    size, marks = image.shape[0], []
    for found in detect(image):
        x, y = found.center
        if found.shape in SHAPES:
            item = Object(found.shape, found.color, *(round(4 * v) / 4 for v in (x, y, found.radius)))
            marks.append(mark(item, size))
        else:
            marks.append(Mark(Thing(None, None, cell_of(x, y, size)), None))
    return ordered(marks)


def ordered(marks: Iterable[Mark]) -> Canvas:
    """Marks in reading order."""
    return tuple(sorted(marks, key=lambda each: 9 if each.thing.cell is None else each.thing.cell))


def work(
    canvas: Sequence[Mark],
    edits: Iterable[Edit],
    rng: np.random.Generator,
    size: int,
    ready: Mapping[Thing, Object] | None = None,
) -> Canvas:
    """The canvas after edits; untouched objects stay exactly where they are.

    Args:
        canvas: What is there.
        edits: Carried out in order; ``ValueError`` where one names what is not there.
        rng: Places what has no place yet; what has no colour is black.
        size: Side of the canvas in pixels.
        ready: Objects that were laid out beforehand.
    """
    ready, marks = ready or {}, list(canvas)
    for edit in edits:
        before = things(marks)
        after = list(apply(before, [edit]))
        kept, gone = [], []
        for each in marks:
            if each.thing in after:
                after.remove(each.thing)
                kept.append(each)
            else:
                gone.append(each)
        old = gone[0].item if len(gone) == 1 and edit.kind in ("change", "replace") else None
        for thing in after:
            kept.append(Mark(thing, _drawn(thing, old, ready.get(thing), kept, rng, size)))
        marks = list(ordered(kept))
    return ordered(_settled(each, size) for each in marks)


def _settled(each: Mark, size: int) -> Mark:
    """The mark with the colour and the place that were left open as they are on the canvas."""
    thing, item = each.thing, each.item
    if item is None:
        return each
    cell = cell_of(item.x, item.y, size) if thing.cell is None else thing.cell
    return Mark(Thing(thing.shape, item.color, cell), item)


def _drawn(
    thing: Thing,
    old: Object | None,
    ready: Object | None,
    others: Sequence[Mark],
    rng: np.random.Generator,
    size: int,
) -> Object:
    color = thing.color or PLAIN
    assert thing.shape is not None, thing
    around = [each.item for each in others if each.item is not None]
    if ready is not None and all(apart(ready, other) for other in around):
        return ready  # before `old`: a relation may hold where this was laid out, and nowhere else in the cell
    if old is not None:
        return Object(thing.shape, color, old.x, old.y, old.radius)
    cell = thing.cell if thing.cell is not None else free_cells(others, rng)[0]
    return Object(thing.shape, color, *place(thing.shape, cell, rng, size, around))


def free_cells(canvas: Sequence[Mark], rng: np.random.Generator) -> list[int]:
    """Cells without a thing, shuffled; all nine where none is free."""
    taken = {each.thing.cell for each in canvas}
    free = [cell for cell in range(9) if cell not in taken] or list(range(9))
    return [free[int(k)] for k in rng.permutation(len(free))]


def other(name: str, names: Iterable[str], rng: np.random.Generator) -> str:
    """Another name out of ``names``."""
    rest = [each for each in names if each != name]
    return rest[int(rng.integers(len(rest)))]


def spoil(
    canvas: Sequence[Mark], new: Sequence[Thing], rng: np.random.Generator, size: int, kind: str | None = None
) -> tuple[np.ndarray, Canvas]:
    """A faulty sketch of a canvas: one fault, on a new object six times in ten.

    Args:
        canvas: What the sketch should show.
        new: What this sketch was to add.
        rng: Chooses the fault.
        size: Side of the canvas in pixels.
        kind: One of ``SPOILS``; by default drawn at random.

    Returns:
        The image, uint8 (size, size, 3), and what it shows.
    """
    whole = [k for k, each in enumerate(canvas) if each.item is not None]
    if not whole:
        kind = "extra"
    kind = kind or SPOILS[int(rng.integers(len(SPOILS)))]
    fresh = [k for k in whole if canvas[k].thing in new]
    pool = fresh if fresh and rng.random() < 0.6 else whole
    k = pool[int(rng.integers(len(pool)))] if pool else 0
    if kind == "extra":
        return _finish((*canvas, mark(_stray(canvas, rng, size), size)), size)
    item = canvas[k].item
    assert item is not None
    rest = (*canvas[:k], *canvas[k + 1 :])
    if kind == "missing":
        return _finish(rest, size)
    if kind == "blend" and (blended := _blend(canvas, k, item, rng, size)) is not None:
        return blended
    if kind == "place":
        cell = free_cells(canvas, rng)[0]
        around = [each.item for each in rest if each.item is not None]
        wrong = Object(item.shape, item.color, *place(item.shape, cell, rng, size, around))
    elif kind == "color":
        wrong = replace(item, color=other(item.color, COLORS, rng))
    else:
        wrong = replace(item, shape=other(item.shape, SHAPES, rng))
    return _finish((*rest, mark(wrong, size)), size)


def _stray(canvas: Sequence[Mark], rng: np.random.Generator, size: int) -> Object:
    shape, color = (tuple(names)[int(rng.integers(len(names)))] for names in (SHAPES, COLORS))
    around = [each.item for each in canvas if each.item is not None]
    return Object(shape, color, *place(shape, free_cells(canvas, rng)[0], rng, size, around))


def _finish(marks: Iterable[Mark], size: int) -> tuple[np.ndarray, Canvas]:
    canvas = ordered(marks)
    return render(scene_of(canvas, size)), canvas


def _blend(
    canvas: Sequence[Mark], k: int, item: Object, rng: np.random.Generator, size: int
) -> tuple[np.ndarray, Canvas] | None:
    """Object ``k`` half turned into another or with a bite out of it, and what the detector makes of that.

    ``None`` where the detector takes every try for right, or for more than one fault.
    """
    state, own = things(canvas), {each.thing: each for each in canvas}
    for _ in range(10):
        image = _mixed(canvas, item, rng, size) if rng.random() < 0.5 else _bitten(canvas, item, rng, size)
        seen = see(image)
        faults = compare(things(seen), state)
        if len(faults) == 1 and state[k].cell in {t.cell for t in (faults[0].seen, faults[0].wanted) if t}:
            return image, tuple(own.get(each.thing, each) for each in seen)
    return None


def _mixed(canvas: Sequence[Mark], item: Object, rng: np.random.Generator, size: int) -> np.ndarray:
    color = item.color if rng.random() < 0.6 else other(item.color, COLORS, rng)
    wrong = replace(item, shape=other(item.shape, SHAPES, rng), color=color)
    objects = [wrong if each == item else each for each in scene_of(canvas, size).objects]
    share = rng.uniform(*BLEND)
    mixed = (1 - share) * render(scene_of(canvas, size)).astype(np.float32) + share * render(
        Scene(tuple(objects), size)
    )
    return (mixed + 0.5).astype(np.uint8)


def _bitten(canvas: Sequence[Mark], item: Object, rng: np.random.Generator, size: int) -> np.ndarray:
    image = render(scene_of(canvas, size))
    side = round(0.8 * item.radius)
    x, y = (max(0, int(c + rng.uniform(-0.6, 0.6) * item.radius - side / 2)) for c in (item.x, item.y))
    image[y : y + side, x : x + side] = BACKGROUND
    return image


__all__ = [
    "BLEND", "PLAIN", "SPOILS", "Canvas", "Mark", "free_cells", "mark", "ordered", "other", "scene_of", "see", "spoil",
    "things", "work",
]  # fmt: skip
