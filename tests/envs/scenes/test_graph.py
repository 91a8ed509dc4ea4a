import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from strokes.envs.scenes.graph import INVERSE, Edge, Graph, Node
from strokes.envs.scenes.tasks import TAGS, sample_graph

CIRCLE, SQUARE, STARS = Node(0, "circle", "red"), Node(1, "square", "blue"), Node(2, "star", "green", 2)


@pytest.fixture
def graphs():
    rng = np.random.default_rng(0)
    return [sample_graph(tag, rng) for tag in TAGS for _ in range(40)]


def test_the_hash_ignores_order_ids_and_inversion():
    graph = Graph((CIRCLE, SQUARE, STARS), (Edge(0, "left of", 1),))
    turned = Graph((STARS, SQUARE, CIRCLE), (Edge(1, "right of", 0),))
    renamed = Graph(
        (Node(7, "square", "blue"), Node(3, "circle", "red"), Node(5, "star", "green", 2)), (Edge(3, "left of", 7),)
    )
    assert graph.canonical_hash() == turned.canonical_hash() == renamed.canonical_hash()
    assert graph.canonical_hash() != Graph((CIRCLE, SQUARE, STARS), (Edge(0, "above", 1),)).canonical_hash()
    assert graph.canonical_hash() != Graph((CIRCLE, SQUARE, STARS), (Edge(1, "left of", 0),)).canonical_hash()


def test_the_hash_is_the_same_in_another_process():
    graph = Graph((CIRCLE, SQUARE), (Edge(0, "left of", 1),))
    code = f"from strokes.envs.scenes.graph import *;print(Graph.from_json({graph.to_json()!r}).canonical_hash())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == graph.canonical_hash()


def test_metadata_and_json_come_back_as_the_same_graph(graphs):
    for graph in graphs:
        assert Graph.from_meta(graph.to_meta()).canonical_hash() == graph.canonical_hash()
        assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
        assert graph.to_meta()["tag"] == graph.tag


def test_metadata_has_geneval_s_form():
    graph = Graph((Node(0, "circle"), Node(1, "square")), (Edge(0, "left of", 1),))
    assert graph.to_meta() == {
        "tag": "position",
        "include": [{"class": "square", "count": 1}, {"class": "circle", "count": 1, "position": ["left of", 0]}],
    }
    assert Graph((Node(0, "star", None, 3),)).to_meta() == {
        "tag": "counting",
        "include": [{"class": "star", "count": 3}],
        "exclude": [{"class": "star", "count": 4}],
    }


def test_subgraphs_are_nested_closed_and_end_in_the_whole(graphs):
    rng = np.random.default_rng(1)
    for graph in graphs:
        parts = graph.subgraphs(rng, int(rng.integers(1, len(graph.nodes) + 1)))
        assert parts[-1].canonical_hash() == graph.canonical_hash()
        for small, large in itertools.pairwise(parts):
            ids = {node.id for node in small.nodes}
            assert ids < {node.id for node in large.nodes}
            inside = {e for e in graph.edges if e.src in ids and e.dst in ids}
            assert set(small.edges) == inside
        for part in parts:  # anchors come first: no object waits for what it is placed relative to
            ids = {node.id for node in part.nodes}
            assert all(edge.dst in ids for edge in graph.edges if edge.src in ids)


@pytest.mark.parametrize(
    ("nodes", "edges", "words"),
    [
        ((Node(0, "dog"),), (), "shape"),
        ((Node(0, "star", "mauve"),), (), "colour"),
        ((Node(0, "star", None, 0),), (), "count"),
        ((CIRCLE, Node(0, "star")), (), "distinct"),
        ((CIRCLE, Node(1, "circle")), (), "told apart"),
        ((CIRCLE, Node(1, "circle", "red")), (), "told apart"),
        ((CIRCLE, SQUARE), (Edge(0, "near", 1),), "relation"),
        ((CIRCLE, SQUARE), (Edge(0, "above", 5),), "two nodes"),
        ((CIRCLE, SQUARE, STARS), (Edge(0, "above", 2),), "group"),
        ((CIRCLE, SQUARE), (Edge(0, "above", 1), Edge(1, "below", 0)), "at most one"),
        ((CIRCLE, SQUARE, Node(2, "moon")), (Edge(0, "above", 1), Edge(1, "above", 2), Edge(2, "above", 0)), "circle"),
        (
            (CIRCLE, SQUARE, Node(2, "moon")),
            (Edge(0, "above", 1), Edge(1, "left of", 2), Edge(2, "left of", 0)),
            "circle",
        ),
    ],
)
def test_a_wrong_graph_is_refused(nodes, edges, words):
    with pytest.raises(ValueError, match=words):
        Graph(nodes, edges)


def test_inverses_are_inverses():
    assert all(INVERSE[INVERSE[rel]] == rel for rel in INVERSE)
