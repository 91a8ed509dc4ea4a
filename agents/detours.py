"""Steps that do not lead straight to the goal: announced detours, and plans that contradict their prompt.

Detours are non-additive steps on purpose: a later step modifies, replaces, removes or swaps what they put there.
They are announced as placeholders, so that an inspector does not take them for mistakes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..envs.scenes.changes import Edit, Thing, apply, broken
from ..envs.scenes.graph import Graph
from ..envs.scenes.render import COLORS, SHAPES


def detour(
    adds: Sequence[Edit], graph: Graph, spots: Sequence[int], rng: np.random.Generator, later: Sequence[Edit] = ()
) -> tuple[Edit, ...]:
    """A step with a placeholder: a wrong colour or shape, one thing too many, or two things in each other's place.

    Args:
        adds: The additions the step would make.
        graph: What the prompt asks for.
        spots: Cells that will stay empty, for one thing too many.
        rng: Chooses the kind.
        later: The additions after these: a swap takes two things, the next one where the step would add one.
    """
    last, thing = adds[-1], adds[-1].thing
    kinds = {"shape": _reshaped(thing, graph, rng), "color": _recolored(thing, graph, rng)}
    options = [kind for kind, wrong in kinds.items() if wrong is not None]
    if spots:
        options.append("extra")
    first, second = _pair(adds, later)
    if (first.shape, first.color) != (second.shape, second.color):
        options.append("swap")
    kind = options[int(rng.integers(len(options)))] if options else ""
    if kind == "swap":
        pair = (replace(first, cell=second.cell), replace(second, cell=first.cell))
        return (*adds[:-2], *(Edit("add", each, placeholder=True) for each in pair))
    if kind == "extra":
        return (*adds, Edit("add", _stray(graph, spots[0], rng), placeholder=True))
    wrong = kinds.get(kind)
    return (*adds[:-1], last if wrong is None else Edit("add", wrong, placeholder=True))


def _pair(adds: Sequence[Edit], later: Sequence[Edit]) -> tuple[Thing, Thing]:
    """The two things a swap would take, equal where there is one alone."""
    if len(adds) > 1:
        return adds[-2].thing, adds[-1].thing
    return adds[0].thing, (later or adds)[0].thing


def plan_error(
    adds: Sequence[Edit], state: Sequence[Thing], graph: Graph, spots: Sequence[int], rng: np.random.Generator
) -> tuple[Edit, ...]:
    """A step whose plan contradicts the prompt, unannounced: colour, shape, a broken relation or one thing too many."""
    thing = adds[-1].thing
    wrong = [each for each in (_reshaped(thing, graph, rng), _recolored(thing, graph, rng)) if each is not None]
    for cell in spots:
        moved = replace(thing, cell=cell)
        if broken(apply(state, (*adds[:-1], Edit("add", moved))), graph):
            wrong.append(moved)
            break
    if spots and (not wrong or rng.random() < 0.25):
        return (*adds, Edit("add", _stray(graph, spots[0], rng)))
    chosen = wrong[int(rng.integers(len(wrong)))] if wrong else thing
    return (*adds[:-1], Edit("add", chosen))


def _recolored(thing: Thing, graph: Graph, rng: np.random.Generator) -> Thing | None:
    """The thing in a colour the prompt does not ask for; ``None`` where any colour will do."""
    if any(node.shape == thing.shape and node.color is None for node in graph.nodes):
        return None
    used = {node.color for node in graph.nodes if node.shape == thing.shape}
    colors = [color for color in COLORS if color not in used]
    return replace(thing, color=colors[int(rng.integers(len(colors)))]) if colors else None


def _reshaped(thing: Thing, graph: Graph, rng: np.random.Generator) -> Thing | None:
    shapes = _unasked(graph)
    return replace(thing, shape=shapes[int(rng.integers(len(shapes)))]) if shapes else None


def _stray(graph: Graph, cell: int, rng: np.random.Generator) -> Thing:
    shapes, colors = _unasked(graph) or list(SHAPES), tuple(COLORS)
    return Thing(shapes[int(rng.integers(len(shapes)))], colors[int(rng.integers(len(colors)))], cell)


def _unasked(graph: Graph) -> list[str]:
    return [shape for shape in SHAPES if all(node.shape != shape for node in graph.nodes)]
