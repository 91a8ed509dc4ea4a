"""Single steps for pre-training: edits, faulty images with their correction, captions.

All three draw random scenes of the world in the painter's habit (a jittered 3 x 3 grid, reading order). A caption
may describe a held-out graph; as a prompt for drawing it must not be used: see ``trainable``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..envs.scenes.changes import Edit, Thing, apply, compare, graph_of, repairs
from ..envs.scenes.graph import Graph
from ..envs.scenes.language import Report, describe, describe_edits, describe_report
from ..envs.scenes.layout import MAX_OBJECTS
from ..envs.scenes.render import COLORS, SHAPES, SIZE, Scene, render
from ..envs.scenes.tasks import split_of
from .brush import Canvas, free_cells, mark, ordered, other, scene_of, spoil, things, work

KINDS = ("add", "remove", "change", "replace", "move")
WEIGHTS = (0.4, 0.15, 0.15, 0.15, 0.15)
"""How often each kind is drawn; drawings consist of additions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditExample:
    """One edit of a scene."""

    source: Scene
    ins: str
    """What to do, as in ``<ins>`` and ``<refine>``."""
    target: Scene
    des: str
    """How the target looks, as in ``<des>``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultExample:
    """A sketch, right or wrong, and what an inspection says of it."""

    before: Scene
    """The canvas before the step (may be empty)."""
    ins: str
    des: str
    image: np.ndarray
    """The sketch, uint8 (size, size, 3)."""
    comment: str
    """What is wrong, or "the sketch follows the plan …" (with what is missing left out: there is no prompt)."""
    refine: str | None
    """The correction; ``None`` where the sketch is right."""
    target: Scene
    """What the sketch should show."""


def random_scene(rng: np.random.Generator, size: int = SIZE, num: int | None = None) -> Scene:
    """A scene of ``num`` objects (1 to 5 by default), in one scene out of four with equal shapes among them."""
    count = int(rng.integers(1, MAX_OBJECTS)) if num is None else num
    canvas: Canvas = ()
    for cell in sorted(int(k) for k in rng.choice(9, count, replace=False)):
        thing = _new_thing(canvas, cell, rng)
        canvas = work(canvas, [Edit("add", thing)], rng, size)
    return scene_of(canvas, size)


def sample_edit(rng: np.random.Generator, size: int = SIZE, kind: str | None = None) -> EditExample:
    """A random scene of up to five objects and one edit of it; additions add one or two objects to 0 to 4.

    Args:
        rng: The only source of randomness.
        size: Side of the canvas in pixels.
        kind: One of ``KINDS``; by default drawn with ``WEIGHTS``.
    """
    chosen = KINDS[int(rng.choice(len(KINDS), p=WEIGHTS))] if kind is None else kind
    if chosen not in KINDS:
        raise ValueError(f"Expected one of {KINDS!r}, got {kind!r}.")
    num = int(rng.integers(0 if chosen == "add" else 1, MAX_OBJECTS - (chosen == "add")))
    canvas = _canvas(random_scene(rng, size, num))
    edits = _additions(canvas, rng) if chosen == "add" else (_edit(canvas, chosen, rng),)
    target = work(canvas, edits, rng, size)
    return EditExample(
        source=scene_of(canvas, size),
        ins=describe_edits(edits),
        target=scene_of(target, size),
        des=describe(graph_of(things(target))),
    )


def sample_fault(rng: np.random.Generator, size: int = SIZE, right: float = 0.5) -> FaultExample:
    """An adding step whose sketch is right (share ``right``) or has one fault, and its inspection."""
    before = _canvas(random_scene(rng, size, int(rng.integers(0, MAX_OBJECTS - 2))))
    edits = _additions(before, rng)
    target = work(before, edits, rng, size)
    image, seen = render(scene_of(target, size)), target
    if rng.random() >= right:
        image, seen = spoil(target, [edit.thing for edit in edits], rng, size)
    faults = compare(things(seen), apply(things(before), edits))
    return FaultExample(
        before=scene_of(before, size),
        ins=describe_edits(edits),
        des=describe(graph_of(things(target))),
        image=image,
        comment=describe_report(Report(faults=faults)),
        refine=describe_edits(repairs(faults)) if faults else None,
        target=scene_of(target, size),
    )


def caption(scene: Scene) -> str:
    """What a canvas shows, as in ``<des>``."""
    return describe(graph_of(scene))


def trainable(graph: Graph) -> bool:
    """Whether a graph may serve as a training prompt: it is not held out."""
    return split_of(graph) == "train"


def _canvas(scene: Scene) -> Canvas:
    return ordered(mark(item, scene.size) for item in scene.objects)


def _new_thing(canvas: Canvas, cell: int, rng: np.random.Generator) -> Thing:
    shape, color = (tuple(names)[int(rng.integers(len(names)))] for names in (SHAPES, COLORS))
    if canvas and rng.random() < 0.2:  # counts need equal shapes
        shape = canvas[0].thing.shape or shape
    return Thing(shape, color, cell)


def _additions(canvas: Canvas, rng: np.random.Generator) -> tuple[Edit, ...]:
    """One or two additions in reading order; half of the time behind everything that is there, as a painter adds."""
    free = sorted(free_cells(canvas, rng))
    last = max((each.thing.cell or 0 for each in canvas), default=-1)
    behind = [cell for cell in free if cell > last]
    pool: Sequence[int] = behind if behind and rng.random() < 0.5 else free
    cells = sorted(int(k) for k in rng.permutation(pool)[: int(rng.integers(1, 3))])
    return tuple(Edit("add", _new_thing(canvas, cell, rng)) for cell in cells)


def _edit(canvas: Canvas, kind: str, rng: np.random.Generator) -> Edit:
    thing = canvas[int(rng.integers(len(canvas)))].thing
    assert thing.shape and thing.color, thing
    if kind == "remove":
        return Edit("remove", thing)
    if kind == "change":
        return Edit("change", thing, Thing(thing.shape, other(thing.color, COLORS, rng), thing.cell))
    if kind == "replace":
        color = thing.color if rng.random() < 0.5 else tuple(COLORS)[int(rng.integers(len(COLORS)))]
        return Edit("replace", thing, Thing(other(thing.shape, SHAPES, rng), color, thing.cell))
    return Edit("move", thing, Thing(thing.shape, thing.color, free_cells(canvas, rng)[0]))


__all__ = [
    "KINDS", "WEIGHTS", "EditExample", "FaultExample", "caption", "random_scene", "sample_edit", "sample_fault",
    "trainable",
]  # fmt: skip
