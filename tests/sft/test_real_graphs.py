"""Graphs of everyday things: nested states, words, benchmarks kept out, metadata files."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from real_parts import WORLD

from strokes.envs.scenes.language import parse
from strokes.rewards.geneval_prompts import CLASSES, geneval_prompts
from strokes.sft import real_graphs
from strokes.sft.multi_turn import DETOUR_RATE
from strokes.sft.real_graphs import PERSON, RealGraph, Relation, Thing, Vocabulary
from strokes.sft.storyteller import Outline, chosen_detours


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


def test_what_a_benchmark_asks_for_is_known():
    assert not RealGraph((Thing(0, "dog"), Thing(1, "tie")), (Relation(1, "below", 0),)).is_benchmark
    entry = next(e for e in geneval_prompts() if e["tag"] == "position")
    (target, name), (rel, _) = (c["class"] for c in entry["include"]), entry["include"][1]["position"]
    inverse = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}[rel]
    assert RealGraph((Thing(0, target), Thing(1, name)), (Relation(1, rel, 0),)).is_benchmark
    assert RealGraph((Thing(0, name), Thing(1, target)), (Relation(1, inverse, 0),)).is_benchmark
    (name,) = (c["class"] for c in next(e for e in geneval_prompts() if e["tag"] == "single_object")["include"])
    assert RealGraph((Thing(0, name),)).is_benchmark and not RealGraph((Thing(0, name, "acid green"),)).is_benchmark


def test_what_is_drawn_is_no_benchmark_prompt(monkeypatch):
    """A vocabulary of nothing but what benchmarks ask for runs out, unless they are let through."""
    pairs = [[c["class"] for c in e["include"]] for e in geneval_prompts() if e["tag"] == "two_object"]
    monkeypatch.setattr(real_graphs, "NUM_THINGS", {2: 1.0})
    for rate in ("ATTRIBUTE_RATE", "RELATION_RATE", "GROUP_RATE"):
        monkeypatch.setattr(real_graphs, rate, 0.0)
    with pytest.raises(ValueError, match="more graphs than are drawn"):
        Vocabulary(objects=tuple(pairs[0])).sample(np.random.default_rng(0))
    graph = Vocabulary(objects=(pairs[0][0], "gadget")).sample(np.random.default_rng(0))
    assert {thing.name for thing in graph.things} == {pairs[0][0], "gadget"}


def test_a_person_has_no_color():
    rng, small = np.random.default_rng(0), Vocabulary(objects=("dog", PERSON), attributes=("red",))
    colors = Counter((t.name, t.attribute) for _ in range(100) for t in small.sample(rng).things)
    assert colors[PERSON, None] == 100 and colors["dog", "red"] > 20


def test_outlines_have_as_many_pictures_as_the_paper_and_ask_for_what_they_should():
    rng, vocabulary, num = np.random.default_rng(0), Vocabulary(), 3000
    outlines = [Outline.draw(vocabulary.sample(rng), rng) for _ in range(num)]
    images = [len(each.states) + len(chosen_detours(each, DETOUR_RATE)) for each in outlines]
    assert set(images) == {2, 3, 4, 5} and abs(np.mean(images) - 3.51) < 0.05
    shares = {
        "attribution": sum(sum(t.attribute is not None for t in o.graph.things) > 1 for o in outlines) / num,
        "position": sum(bool(o.graph.relations) for o in outlines) / num,
        "counting": sum(any(t.count > 1 for t in o.graph.things) for o in outlines) / num,
    }
    assert shares == pytest.approx({"attribution": 0.76, "position": 0.79, "counting": 0.25}, abs=0.03)


def test_only_what_has_a_known_plural_comes_in_groups():
    rng, vocabulary = np.random.default_rng(0), Vocabulary(objects=("leaf", "jeans", "cherry", "bench"))
    counts = Counter((t.name, t.count > 1) for _ in range(300) for t in vocabulary.sample(rng).things)
    assert {name for name, is_group in counts if is_group} == {"bench"}
    irregular = {"people", "sheep", "knives", "computer mice", "pairs of skis", "pairs of scissors"}
    plurals = {Thing(0, name, None, 2).words().removeprefix("two ") for name in CLASSES}
    assert irregular <= plurals and {"benches", "buses", "toothbrushes", "sandwiches", "broccolis"} <= plurals


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"objects": ("gadget",)}, "objects to be at least 2 names"),
        ({"objects": ("gadget", "gadget")}, "objects to be at least 2 names, each once"),
        ({"objects": ("gadget", "gizmo", "gizmo")}, "each once"),
        ({"attributes": ()}, "attributes to be at least 1 names"),
        ({"relations": ()}, "relations to be at least 1 names"),
        ({"attributes": "red"}, "attributes to be a tuple of names, got 'red'"),
        ({"relations": ("above", 3)}, "relations to be a tuple of names"),
    ],
)
def test_a_vocabulary_that_gives_no_graphs_is_refused(lists, words):
    with pytest.raises(ValueError, match=words):
        Vocabulary(**lists)


def test_a_small_vocabulary_runs_out_and_does_not_hang():
    small, rng, seen = Vocabulary(objects=("gadget", "gizmo"), attributes=("red",)), np.random.default_rng(0), set()
    with pytest.raises(ValueError, match=r"got one of 2 objects, 1 attributes and 4 relations; name more"):
        while True:
            seen.add(small.sample(rng, lambda key: key not in seen).canonical_hash())
    assert len(seen) == 4 + 4 * 2 * 2  # red or not; four places, seen from one side


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
    for wrong in ({"color": "red"}, {"color": 3}, {"color": [3]}, "red", 3):
        (tmp_path / "attributes.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="list of names, or lists by kind"):
            Vocabulary.read(attributes=tmp_path / "attributes.json")
    (tmp_path / "objects.json").write_text("[1]")
    with pytest.raises(ValueError, match="list of names"):
        Vocabulary.read(**paths)
    with pytest.raises(ValueError, match=r"got '.*nowhere\.json'"):
        Vocabulary.read(tmp_path / "nowhere.json")
