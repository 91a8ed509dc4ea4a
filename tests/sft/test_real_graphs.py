"""Graphs of everyday things: nested states, words, benchmarks kept out, metadata files."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest

from strokes.envs.scenes import COLORS, SHAPES
from strokes.envs.scenes.graph import RELATIONS
from strokes.envs.scenes.language import parse
from strokes.rewards.geneval_prompts import geneval_prompts
from strokes.sft.real_graphs import PERSON, RealGraph, Relation, Thing, Vocabulary

WORLD = Vocabulary(objects=tuple(SHAPES), attributes=tuple(COLORS), relations=RELATIONS)
"""The mini-world's things, whose words its own reader takes apart."""


def test_sub_graphs_are_nested_and_closed_and_end_in_the_whole():
    rng = np.random.default_rng(0)
    for _ in range(200):
        graph = Vocabulary().sample(rng)
        num = int(rng.integers(2, len(graph.things) + 1))
        states = graph.subgraphs(rng, num)
        assert states[-1] == graph and len(states) == num
        for smaller, larger in itertools.pairwise(states):
            ids = {thing.id for thing in smaller.things}
            assert set(smaller.things) < set(larger.things) and set(smaller.relations) <= set(larger.relations)
            assert {e for e in graph.relations if {e.src, e.dst} <= ids} == set(smaller.relations)
            # whatever is placed relative to something comes with it, or after it
            assert all(e.dst in ids for e in graph.relations if e.src in ids)


def test_words_say_what_the_graph_says():
    """The mini-world's own reader takes the words apart again."""
    rng, kinds = np.random.default_rng(1), Counter()
    for _ in range(200):
        graph = WORLD.sample(rng)
        read = parse(graph.describe())
        told = sorted((node.shape, node.color, node.count) for node in read.nodes if node.color)
        assert told == sorted((t.name, t.attribute, t.count) for t in graph.things if t.attribute)
        names = {thing.id: thing.name for thing in graph.things}
        edges = {(read.node(e.src).shape, e.rel, read.node(e.dst).shape) for e in read.edges}
        assert edges == {(names[e.src], e.rel, names[e.dst]) for e in graph.relations}
        assert len(read.nodes) == len(graph.things)
        kinds.update(relations=len(read.edges), attributes=len(told), groups=sum(n.count > 1 for n in read.nodes))
    assert min(kinds.values()) > 20


def test_names_are_inflected():
    assert (
        Thing(0, "person", None, 2).words() == "two people" and Thing(0, "bus", "red", 3).words() == "three red buses"
    )
    assert Thing(0, "apple").words() == "an apple" and Thing(0, "skis", "red").words() == "a red pair of skis"
    assert Thing(0, "wine glass", None, 2).words() == "two wine glasses"
    assert Thing(0, "scissors", None, 2).words() == "two pairs of scissors" and Thing(0, "cat").words(True) == "the cat"


def test_what_a_benchmark_asks_for_is_never_drawn():
    asked = {entry["prompt"] for entry in geneval_prompts()}
    flipped = RealGraph((Thing(0, "dog"), Thing(1, "tie")), (Relation(1, "below", 0),))
    entry = next(e for e in geneval_prompts() if e["tag"] == "position")
    (target, name), (rel, _) = (c["class"] for c in entry["include"]), entry["include"][1]["position"]
    inverse = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}[rel]
    assert RealGraph((Thing(0, target), Thing(1, name)), (Relation(1, rel, 0),)).is_benchmark
    assert RealGraph((Thing(0, name), Thing(1, target)), (Relation(1, inverse, 0),)).is_benchmark
    assert flipped.is_benchmark is ("a photo of a tie below a dog" in asked or "a photo of a dog above a tie" in asked)
    rng, small = np.random.default_rng(0), Vocabulary(objects=("dog", "tie", "cup", "person"), attributes=("red",))
    for _ in range(300):
        graph = small.sample(rng)
        assert f"a photo of {graph.describe()}" not in asked
        assert all(thing.attribute is None for thing in graph.things if thing.name == PERSON)


@pytest.mark.parametrize(
    ("things", "relations", "words"),
    [
        ((Thing(0, "cat"), Thing(1, "cat", "red")), (), "different names"),
        ((Thing(0, "cat"),), (Relation(0, "on", 1),), "comes earlier"),
        ((Thing(0, "cat"), Thing(1, "dog")), (Relation(0, "on", 1),), "comes earlier"),
        (
            (Thing(0, "cat"), Thing(1, "dog"), Thing(2, "cup")),
            (Relation(2, "on", 0), Relation(2, "on", 1)),
            "at most one other",
        ),
    ],
)
def test_a_graph_that_words_cannot_say_is_refused(things, relations, words):
    with pytest.raises(ValueError, match=words):
        RealGraph(things, relations)


def test_metadata_files_are_read(tmp_path):
    files = {
        "objects": ["cup (hole)", "guinea_pig", "cup"],
        "attributes": {"color": ["Acid Green", "Cinnamon[Citation Needed]"], "material": ["wooden"]},
        "relations": {"spatial": ["on top of"], "social": ["married to"]},
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    paths = {name: tmp_path / f"{name}.json" for name in files}
    assert Vocabulary.read(**paths) == Vocabulary(
        objects=("cup", "guinea pig"), attributes=("acid green", "cinnamon"), relations=("on top of",)
    )
    assert Vocabulary.read(**paths, kinds=("material", "social")).relations == ("married to",)
    assert Vocabulary.read() == Vocabulary() and len(Vocabulary.read(paths["objects"]).attributes) == 10
    with pytest.raises(ValueError, match="kinds texture, got none"):
        Vocabulary.read(attributes=paths["attributes"], kinds=("texture",))
    (tmp_path / "objects.json").write_text("[1]")
    with pytest.raises(ValueError, match="list of names"):
        Vocabulary.read(**paths)
    with pytest.raises(ValueError, match=r"got '.*nowhere\.json'"):
        Vocabulary.read(tmp_path / "nowhere.json")
