"""Graphs in words: prompts and descriptions, written and read exactly."""

from dataclasses import replace

from .graph import Edge, Graph, Node
from .words import Cursor, listed, phrase

NOTHING = "nothing"
"""The description of an empty canvas."""


def describe(graph: Graph) -> str:
    """A graph in words: its nodes in order, relations where their first end is named."""
    placed = {edge.src: edge for edge in graph.edges}
    named: set[int] = set()
    items = []
    for node in graph.nodes:
        edge = placed.get(node.id)
        if node.id in named and edge is None:
            continue
        words = _name(node, named)
        if edge is not None:
            words = f"{words} {edge.rel} {_name(graph.node(edge.dst), named)}"
        items.append(words)
    return listed(items, comma=bool(graph.edges)) or NOTHING


def _name(node: Node, named: set[int]) -> str:
    definite = node.id in named
    named.add(node.id)
    return phrase(node.shape, node.color, node.count, definite)


def parse(text: str) -> Graph:
    """The graph of a prompt or description.

    Tolerates capitals, a final period, "a drawing of", "the" for "a", digits, and "to the left of".

    Raises:
        ValueError: The text is outside the language; the message names the phrase.
    """
    cursor = Cursor(text)
    if cursor.take(NOTHING):
        cursor.end()
        return Graph(())
    _ = cursor.take("a drawing of") or cursor.take("drawing of")
    graph = read_graph(cursor)
    cursor.end()
    return graph


def read_graph(cursor: Cursor) -> Graph:
    """Read a list of objects and relations, as far as it goes."""
    nodes: list[Node] = []
    edges: list[Edge] = []
    while True:
        before = cursor.at
        src, known = mention(cursor, nodes)
        rel = cursor.relation()
        if rel is not None:
            edges.append(Edge(src, rel, mention(cursor, nodes)[0]))
        elif known:
            cursor.at = before
            raise cursor.error("an object that was not named before")
        if not cursor.comma():
            return Graph(tuple(nodes), tuple(edges))


def mention(cursor: Cursor, nodes: list[Node]) -> tuple[int, bool]:
    """The id of the node that comes next, and whether it was named before."""
    node, definite = cursor.item()
    for other in nodes:
        same = (other.shape, other.count) == (node.shape, node.count)
        if same and (other.color == node.color or (definite and node.color is None)):
            return other.id, True
    nodes.append(replace(node, id=len(nodes)))
    return nodes[-1].id, False
