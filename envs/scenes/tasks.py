"""GenEval's six tasks on the mini-world and a seventh, compositions; their verdicts and their hold-out.

A prompt is held out by its canonical graph, so no paraphrase and no inverse of a held-out prompt is ever
drawn for training:

* single objects, pairs and counts: all prompts are in both splits (``seen``), evaluated with new seeds;
* colours: 13 of 64 are held out, every shape and every colour at least once;
* relations: 24 of the 112 relations of two shapes (up to inversion) are held out, in any colours and inside any
  composition; each shape occurs three times per axis. The others are held out by hash once they carry colours;
* everything else (colour attribution, compositions): one graph in five, by hash.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product
from typing import Any

import numpy as np

from .graph import RELATIONS, TAGS, Edge, Graph, Node
from .language import describe
from .layout import feasible
from .render import COLORS, SHAPES
from .verdicts import THRESHOLD, Seen, Verdict, verdict

HELDOUT_EVERY = 5
PROMPT_WEIGHTS = (0.06, 0.12, 0.12, 0.12, 0.22, 0.18, 0.18)
"""How often training draws each of ``TAGS``: harder tasks have more prompts and get more draws."""

_SHAPES, _COLORS = tuple(SHAPES), tuple(COLORS)
_HELD_COLORS = frozenset(
    [(_SHAPES[k], _COLORS[(3 * k + 1) % 8]) for k in range(8)]
    + [(_SHAPES[k], _COLORS[(3 * k + 4) % 8]) for k in range(5)]
)
_HELD_RELATIONS = frozenset(
    [(_SHAPES[k], "left of", _SHAPES[(k + 3) % 8]) for k in range(8)]
    + [(_SHAPES[k], "left of", _SHAPES[k + 1]) for k in range(0, 8, 2)]
    + [(_SHAPES[k], "above", _SHAPES[(k + 2) % 8]) for k in range(8)]
    + [(_SHAPES[k], "above", _SHAPES[(k + 5) % 8]) for k in range(1, 8, 2)]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One prompt and how it is judged."""

    prompt: str
    graph: Graph
    meta: Mapping[str, Any]
    """GenEval-style: tag, include, exclude."""
    tag: str
    seed: int = 0
    """Distinguishes several drawings of one prompt in an evaluation."""
    seen: bool = False
    """The prompt also occurs in training (single objects, pairs, counts)."""


def task_of(graph: Graph, seed: int = 0) -> Task:
    """The task that asks for a graph."""
    tag = graph.tag
    seen = tag in ("single_object", "two_object", "counting")
    return Task(prompt=describe(graph), graph=graph, meta=graph.to_meta(), tag=tag, seed=seed, seen=seen)


def split_of(graph: Graph) -> str:
    """ "heldout" for graphs that training never draws, else "train"; the same for inverses and any order."""
    for edge in (edge.canonical() for edge in graph.edges):
        if (graph.node(edge.src).shape, edge.rel, graph.node(edge.dst).shape) in _HELD_RELATIONS:
            return "heldout"
    if graph.tag in ("single_object", "two_object", "counting"):
        return "train"
    if graph.tag == "colors":
        return "heldout" if (graph.nodes[0].shape, graph.nodes[0].color) in _HELD_COLORS else "train"
    if graph.tag == "position" and all(node.color is None for node in graph.nodes):
        return "train"
    return "heldout" if int(graph.canonical_hash()[:12], 16) % HELDOUT_EVERY == 0 else "train"


def enumerate_graphs(tag: str) -> Iterator[Graph]:
    """All graphs of one of GenEval's six tasks: 8, 28, 24, 64, 224 and 1,568 (positions without colours)."""
    if tag == "single_object":
        yield from (Graph((Node(0, shape),)) for shape in _SHAPES)
    elif tag == "two_object":
        yield from (Graph((Node(0, a), Node(1, b))) for a, b in combinations(_SHAPES, 2))
    elif tag == "counting":
        yield from (Graph((Node(0, shape, None, count),)) for shape, count in product(_SHAPES, (2, 3, 4)))
    elif tag == "colors":
        yield from (Graph((Node(0, shape, color),)) for shape, color in product(_SHAPES, _COLORS))
    elif tag == "position":
        for (a, b), rel in product(permutations(_SHAPES, 2), RELATIONS):
            yield Graph((Node(0, a), Node(1, b)), (Edge(0, rel, 1),))
    elif tag == "color_attr":
        for (a, b), (c, d) in product(combinations(_SHAPES, 2), permutations(_COLORS, 2)):
            yield Graph((Node(0, a, c), Node(1, b, d)))
    else:
        raise ValueError(f"Expected one of GenEval's tasks {TAGS[:6]!r}, got {tag!r}.")


def sample_graph(tag: str, rng: np.random.Generator) -> Graph:
    """A random graph of a task; half of the positions carry colours, compositions have 3 or 4 objects."""
    shapes = [_SHAPES[int(k)] for k in rng.permutation(8)]
    colors = [_COLORS[int(k)] for k in rng.permutation(8)]
    if tag == "single_object":
        return Graph((Node(0, shapes[0]),))
    if tag == "two_object":
        return Graph((Node(0, shapes[0]), Node(1, shapes[1])))
    if tag == "counting":
        return Graph((Node(0, shapes[0], None, int(rng.integers(2, 5))),))
    if tag == "colors":
        return Graph((Node(0, shapes[0], colors[0]),))
    if tag == "color_attr":
        return Graph((Node(0, shapes[0], colors[0]), Node(1, shapes[1], colors[1])))
    if tag == "position":
        first, second = (colors[0], colors[1]) if rng.random() < 0.5 else (None, None)
        edge = Edge(0, RELATIONS[int(rng.integers(4))], 1)
        return Graph((Node(0, shapes[0], first), Node(1, shapes[1], second)), (edge,))
    if tag == "composition":
        return _composition(shapes, colors, rng)
    raise ValueError(f"Expected one of {TAGS!r}, got {tag!r}.")


def _composition(shapes: Sequence[str], colors: Sequence[str], rng: np.random.Generator) -> Graph:
    """3 or 4 objects in 2 to 4 groups, 0 to 2 relations, all coloured or partly."""
    while True:
        counts = [(2, 1), (1, 1, 1), (2, 2), (3, 1), (2, 1, 1), (1, 1, 1, 1)][int(rng.integers(6))]
        counts = tuple(counts[int(k)] for k in rng.permutation(len(counts)))
        partly = rng.random() < 0.3
        nodes = tuple(
            Node(k, shapes[k], None if partly and rng.random() < 0.5 else colors[k], count)
            for k, count in enumerate(counts)
        )
        single = [k for k, count in enumerate(counts) if count == 1]
        edges = tuple(Edge(src, RELATIONS[int(rng.integers(4))], single[i + 1]) for i, src in enumerate(single[:-1]))[
            : int(rng.integers(3))
        ]
        graph = Graph(nodes, edges)
        if feasible(graph):
            return graph


def sample_task(rng: np.random.Generator, split: str = "train", tag: str | None = None) -> Task:
    """A random task of a split.

    Args:
        rng: The only source of randomness.
        split: "train" (never a held-out graph) or "heldout" (the seen tasks included).
        tag: One of ``TAGS``; by default drawn with ``PROMPT_WEIGHTS``.
    """
    _check_split(split)
    chosen = TAGS[int(rng.choice(len(TAGS), p=PROMPT_WEIGHTS))] if tag is None else tag
    while True:
        task = task_of(sample_graph(chosen, rng))
        if task.seen or split_of(task.graph) == split:
            return task


def heldout(split: str = "heldout", limit: int | None = None) -> list[Task]:
    """The evaluation set, always the same, task by task.

    In full: 8 single objects, 28 pairs and 24 counts with 4, 2 and 2 seeds each; 13 colours with 4 seeds; 240
    positions (24 relations without colours, both ways, and 192 coloured graphs, balanced over the four
    relations); 208 colour attributions; 120 compositions.

    Args:
        split: "heldout", or "train" for as many prompts of the training split (to measure memorising).
        limit: Tasks per tag at most; the relations stay balanced.
    """
    _check_split(split)
    tasks: list[Task] = []
    for tag, seeds in zip(TAGS[:4], (4, 2, 2, 4), strict=True):
        graphs = [g for g in enumerate_graphs(tag) if tag != "colors" or split_of(g) == split]
        tasks += [task_of(graph, seed) for seed in range(seeds) for graph in graphs][:limit]
    rng = np.random.default_rng(20260404)  # the number only has to stay the same
    tasks += [task_of(graph) for graph in _positions(rng, split)][:limit]
    for tag, num in (("color_attr", 208), ("composition", 120)):
        tasks += [task_of(graph) for graph in _distinct(rng, split, tag, num)][:limit]
    return tasks


def _positions(rng: np.random.Generator, split: str) -> list[Graph]:
    """48 uncoloured and 192 coloured positions; the four relations take turns."""
    plain = [graph for graph in enumerate_graphs("position") if split_of(graph) == split]
    by_rel = {rel: [graph for graph in plain if graph.edges[0].rel == rel][:12] for rel in RELATIONS}
    colored: dict[str, list[Graph]] = {rel: [] for rel in RELATIONS}
    taken = set()
    while any(len(graphs) < 48 for graphs in colored.values()):
        graph = sample_graph("position", rng)
        rel, key = graph.edges[0].rel, graph.canonical_hash()
        fresh = graph.nodes[0].color is not None and split_of(graph) == split and key not in taken
        if fresh and len(colored[rel]) < 48:
            colored[rel].append(graph)
            taken.add(key)
    turns = [
        by_rel[rel][k // 5] if k % 5 == 0 else colored[rel][k - k // 5 - 1] for k in range(60) for rel in RELATIONS
    ]
    return turns


def _distinct(rng: np.random.Generator, split: str, tag: str, num: int) -> list[Graph]:
    graphs: dict[str, Graph] = {}
    while len(graphs) < num:
        graph = sample_graph(tag, rng)
        if graph.tag == tag and split_of(graph) == split:
            graphs.setdefault(graph.canonical_hash(), graph)
    return list(graphs.values())


def _check_split(split: str) -> None:
    if split not in ("train", "heldout"):
        raise ValueError(f"Expected split 'train' or 'heldout', got {split!r}.")


__all__ = [
    "TAGS", "THRESHOLD", "Seen", "Task", "Verdict", "enumerate_graphs", "heldout",
    "sample_graph", "sample_task", "split_of", "task_of", "verdict",
]  # fmt: skip
