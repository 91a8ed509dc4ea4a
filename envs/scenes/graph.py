"""Scene graphs: what a prompt asks for, without saying where it goes.

A node is a group of equal objects, an edge places one object relative to another. Two graphs that ask for
the same scene have the same canonical form: the order of nodes does not count, and "a left of b" is
"b right of a". The canonical hash is what splits held-out prompts from training prompts.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .render import COLORS, SHAPES

RELATIONS = ("left of", "right of", "above", "below")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr", "composition")
"""GenEval's six tasks and everything larger."""
MAX_COUNT = 9


@dataclass(frozen=True, slots=True)
class Node:
    """A group of equal objects."""

    id: int
    shape: str
    color: str | None = None
    """``None``: any colour will do."""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Edge:
    """``src`` is placed relative to ``dst``: "src rel dst"."""

    src: int
    rel: str
    dst: int

    def canonical(self) -> "Edge":
        """The same relation said with "left of" or "above"."""
        return self if self.rel in ("left of", "above") else Edge(self.dst, INVERSE[self.rel], self.src)


@dataclass(frozen=True, slots=True)
class Graph:
    """A checked scene graph.

    Raises:
        ValueError: A reference is ambiguous (two nodes of one shape that are not told apart by colour), a
            relation has an end that is missing or counts more than one object, an object is placed relative
            to two others, or the relations contradict each other.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()

    def __post_init__(self) -> None:
        _check_nodes(self.nodes)
        _check_edges(self)

    @property
    def total(self) -> int:
        """Number of objects, counts included."""
        return sum(node.count for node in self.nodes)

    @property
    def tag(self) -> str:
        """The GenEval task this graph belongs to, "composition" beyond the six."""
        nodes, single = self.nodes, all(node.count == 1 for node in self.nodes)
        if len(nodes) == 1 and not single and nodes[0].color is None:
            return "counting"
        if len(nodes) == 1 and single:
            return "single_object" if nodes[0].color is None else "colors"
        if len(nodes) == 2 and single:
            colored = sum(node.color is not None for node in nodes)
            if self.edges:
                return "position"
            if colored != 1:
                return "color_attr" if colored else "two_object"
        return "composition"

    def node(self, id: int) -> Node:
        """The node called ``id``; ``KeyError`` if there is none."""
        for node in self.nodes:
            if node.id == id:
                return node
        raise KeyError(id)

    def canonical(self) -> tuple[tuple[tuple[str, str, int], ...], tuple[tuple[int, str, int], ...]]:
        """Nodes sorted, edges in canonical orientation: equal for graphs that ask for the same scene."""
        ranked = sorted(self.nodes, key=lambda node: (node.shape, node.color or "", node.count))
        rank = {node.id: k for k, node in enumerate(ranked)}
        edges = sorted((rank[e.src], e.rel, rank[e.dst]) for e in (edge.canonical() for edge in self.edges))
        return tuple((node.shape, node.color or "", node.count) for node in ranked), tuple(edges)

    def canonical_hash(self) -> str:
        """SHA-256 (64 hex digits) of the canonical form; the same in every process."""
        return hashlib.sha256(json.dumps(self.canonical()).encode()).hexdigest()

    def induced(self, ids: Collection[int]) -> "Graph":
        """The closed sub-graph on ``ids``: an edge only if both ends are in."""
        return Graph(
            tuple(node for node in self.nodes if node.id in ids),
            tuple(edge for edge in self.edges if edge.src in ids and edge.dst in ids),
        )

    def subgraphs(self, rng: np.random.Generator, num: int) -> list["Graph"]:
        """``num`` nested closed sub-graphs that grow to this graph, anchors before what depends on them.

        No prefix can contradict the whole: each is an induced sub-graph of a linear extension of the relations.

        Args:
            rng: Breaks the ties of the order and chooses where it is cut.
            num: Number of sub-graphs, in [1, number of nodes].
        """
        if not 1 <= num <= len(self.nodes):
            raise ValueError(f"Expected num in [1, {len(self.nodes)}], got {num!r}.")
        order = self.linear_extension([self.nodes[int(k)].id for k in rng.permutation(len(self.nodes))])
        cuts = sorted(int(k) + 1 for k in rng.choice(len(order) - 1, num - 1, replace=False)) if num > 1 else []
        return [self.induced(order[:cut]) for cut in (*cuts, len(order))]

    def linear_extension(self, ids: Sequence[int]) -> list[int]:
        """``ids`` reordered as little as needed so that every anchor comes before what is placed relative to it."""
        anchor, order = {edge.src: edge.dst for edge in self.edges}, list[int]()
        for id in ids:
            chain = [id]
            while chain[-1] in anchor:
                chain.append(anchor[chain[-1]])
            order += [each for each in reversed(chain) if each not in order]
        return order

    def to_meta(self) -> dict[str, Any]:
        """GenEval's metadata: tag, include clauses (targets of relations first) and, for counting, exclude."""
        order = self.linear_extension([node.id for node in self.nodes])
        placed = {edge.src: edge for edge in self.edges}
        include = []
        for id in order:
            node = self.node(id)
            clause: dict[str, Any] = {"class": node.shape, "count": node.count}
            if node.color is not None:
                clause["color"] = node.color
            if id in placed:
                clause["position"] = [placed[id].rel, order.index(placed[id].dst)]
            include.append(clause)
        meta: dict[str, Any] = {"tag": self.tag, "include": include}
        if self.tag == "counting":
            meta["exclude"] = [{"class": self.nodes[0].shape, "count": self.nodes[0].count + 1}]
        return meta

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> "Graph":
        """The graph of GenEval's metadata; ids are the indices of the include clauses, targets of relations first."""
        clauses = meta["include"]
        if late := [c for k, c in enumerate(clauses) if "position" in c and int(c["position"][1]) >= k]:
            raise ValueError(f"Expected positions relative to an earlier clause, got {late[0]!r}.")
        nodes = tuple(Node(k, c["class"], c.get("color"), int(c["count"])) for k, c in enumerate(clauses))
        edges = tuple(
            Edge(k, c["position"][0], int(c["position"][1])) for k, c in enumerate(clauses) if "position" in c
        )
        return cls(nodes, edges)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries, ids and order kept."""
        return {
            "nodes": [{"id": n.id, "shape": n.shape, "color": n.color, "count": n.count} for n in self.nodes],
            "edges": [[e.src, e.rel, e.dst] for e in self.edges],
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Graph":
        """What ``to_json`` wrote."""
        nodes = tuple(Node(int(n["id"]), n["shape"], n["color"], int(n["count"])) for n in record["nodes"])
        return cls(nodes, tuple(Edge(int(src), rel, int(dst)) for src, rel, dst in record["edges"]))


def _check_nodes(nodes: Sequence[Node]) -> None:
    if len({node.id for node in nodes}) != len(nodes):
        raise ValueError(f"Expected distinct node ids, got {[node.id for node in nodes]!r}.")
    for node in nodes:
        if node.shape not in SHAPES:
            raise ValueError(f"Expected a shape among {', '.join(SHAPES)}, got {node.shape!r}.")
        if node.color is not None and node.color not in COLORS:
            raise ValueError(f"Expected a colour among {', '.join(COLORS)}, got {node.color!r}.")
        if not 1 <= node.count <= MAX_COUNT:
            raise ValueError(f"Expected a count in [1, {MAX_COUNT}], got {node.count!r}.")
        alike = [other for other in nodes if other.shape == node.shape and other is not node]
        if any(node.color is None or other.color in (None, node.color) for other in alike):
            raise ValueError(f"Expected objects told apart by shape or colour, got two kinds of {node.shape!r}.")


def _check_edges(graph: Graph) -> None:
    ids = {node.id for node in graph.nodes}
    for edge in graph.edges:
        if edge.rel not in INVERSE:
            raise ValueError(f"Expected a relation among {', '.join(RELATIONS)}, got {edge.rel!r}.")
        if not {edge.src, edge.dst} <= ids or edge.src == edge.dst:
            raise ValueError(f"Expected a relation between two nodes of the graph, got {edge!r}.")
        if any(graph.node(end).count != 1 for end in (edge.src, edge.dst)):
            raise ValueError(f"Expected relations between single objects, got a group in {edge!r}.")
    sources = [edge.src for edge in graph.edges]
    pairs = [frozenset((edge.src, edge.dst)) for edge in graph.edges]
    if len(set(sources)) != len(sources) or len(set(pairs)) != len(pairs):
        raise ValueError("Expected each object to be placed relative to at most one other, once.")
    edges = [edge.canonical() for edge in graph.edges]
    for axis in ("left of", "above"):
        _check_acyclic({(edge.src, edge.dst) for edge in edges if edge.rel == axis}, axis)
    _check_acyclic({(edge.src, edge.dst) for edge in graph.edges}, "placed relative to")


def _check_acyclic(links: set[tuple[int, int]], name: str) -> None:
    while links:
        kept = {link for link in links if link[1] in {src for src, _ in links}}
        if len(kept) == len(links):
            raise ValueError(f"Expected relations without a circle, got one of {name!r}.")
        links = kept
