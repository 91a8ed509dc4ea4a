"""What the mini-world's data set draws: scene graphs of the training split, in one list that chunks take slices of.

No graph is drawn that is held out for evaluation (``tasks.split_of``), and one graph in ``VALIDATION_EVERY`` is kept
for validation, except of tasks whose prompts are in every split anyway (``SEEN``). Where a task has more graphs than
are wanted none is drawn twice; where it has fewer, all take turns: in 32,012 prompts no composition and no relation
between coloured objects comes twice, two coloured objects twice at most, a relation without colours 17 times, single
objects 40, pairs 29, counts 67 and colours 26 times. Layout, order of strokes and detours differ each time.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations, product

import numpy as np

from ..envs.scenes.graph import INVERSE, Edge, Graph
from ..envs.scenes.render import COLORS
from ..envs.scenes.tasks import Task, enumerate_graphs, sample_graph, split_of, task_of

SHARES: Mapping[str, float] = {
    "single_object": 0.01,
    "two_object": 0.025,
    "counting": 0.05,
    "colors": 0.04,
    "plain_position": 0.045,
    "position": 0.12,
    "color_attr": 0.07,
    "composition": 0.64,
}
"""Of each task; "plain_position" are relations without colours. Ours: the paper's trajectories have 3.51 images, which
takes compositions; of GenEval's tasks, relations and colour attribution are hardest and have most prompts."""
SEEN = ("single_object", "two_object", "counting")
"""Tasks with so few prompts that all of them are in every split."""
VALIDATION_EVERY = 64
"""One graph in so many is for validation. Ours: enough for the 1 % that is set aside, at little cost to training."""
SPLITS = ("train", "validation")


def data_split(graph: Graph) -> str:
    """ "train", "validation" or, for what evaluations ask, "heldout"; the same for inverses and any order."""
    if split_of(graph) == "heldout":
        return "heldout"
    in_bucket = int(graph.canonical_hash()[-8:], 16) % VALIDATION_EVERY == 0
    return "validation" if in_bucket and graph.tag not in SEEN else "train"


def scene_prompts(seed: int, num: int, split: str = "train", start: int = 0, stop: int | None = None) -> list[Task]:
    """Prompts ``start`` to ``stop`` of the ``num`` that a seed stands for; the list is kept for the next slice.

    Args:
        seed: Decides graphs, their wording and their order.
        num: Of prompts in the whole list.
        split: "train" or "validation".
        start: First of the slice.
        stop: End of the slice; ``None``: to the end.

    Raises:
        ValueError: Another split.
    """
    if split not in SPLITS:
        raise ValueError(f"Expected split among {', '.join(SPLITS)}, got {split!r}.")
    return [task_of(graph) for graph in _graphs(seed, num, split)[start:stop]]


@functools.lru_cache(4)
def _graphs(seed: int, num: int, split: str) -> tuple[Graph, ...]:
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    pools = {name: [graph for graph in _space(name) if data_split(graph) == split] for name in list(SHARES)[:-1]}
    quotas = _quotas(num, {name: share for name, share in SHARES.items() if pools.get(name, True)})
    graphs = [
        _reworded(graph, rng) for name, pool in pools.items() for graph in _in_turn(pool, quotas.get(name, 0), rng)
    ]
    graphs += _compositions(quotas["composition"], split, rng)
    return tuple(graphs[int(k)] for k in rng.permutation(len(graphs)))


def _quotas(num: int, shares: Mapping[str, float]) -> dict[str, int]:
    """``num`` divided by shares, largest remainders first."""
    total = sum(shares.values())
    exact = {name: num * share / total for name, share in shares.items()}
    late = sorted(exact, key=lambda name: int(exact[name]) - exact[name])
    left = num - sum(map(int, exact.values()))
    return {name: int(value) + (name in late[:left]) for name, value in exact.items()}


@functools.cache
def _space(name: str) -> tuple[Graph, ...]:
    """All graphs of a task other than compositions; of a relation and its inverse one."""
    if name not in ("plain_position", "position"):
        return tuple(enumerate_graphs(name))
    plain = [graph for graph in enumerate_graphs("position") if graph.edges[0] == graph.edges[0].canonical()]
    if name == "plain_position":
        return tuple(plain)
    return tuple(
        Graph((replace(graph.nodes[0], color=first), replace(graph.nodes[1], color=second)), graph.edges)
        for graph, (first, second) in product(plain, permutations(COLORS, 2))
    )


def _in_turn(pool: Sequence[Graph], num: int, rng: np.random.Generator) -> list[Graph]:
    """``num`` graphs of a pool, all in turn, each round in another order."""
    graphs = list[Graph]()
    while len(graphs) < num:
        graphs += [pool[int(k)] for k in rng.permutation(len(pool))]
    return graphs[:num]


def _reworded(graph: Graph, rng: np.random.Generator) -> Graph:
    """The same scene, in half of the cases told from the other side: inverse relation, other object first."""
    if len(graph.nodes) == 1 or rng.random() < 0.5:
        return graph
    first, second = graph.nodes
    edges = tuple(Edge(0, INVERSE[edge.rel], 1) for edge in graph.edges)
    return Graph((replace(second, id=0), replace(first, id=1)), edges)


def _compositions(num: int, split: str, rng: np.random.Generator) -> list[Graph]:
    """``num`` different compositions."""
    graphs = dict[str, Graph]()
    while len(graphs) < num:
        graph = sample_graph("composition", rng)
        if data_split(graph) == split:
            graphs.setdefault(graph.canonical_hash(), graph)
    return list(graphs.values())
