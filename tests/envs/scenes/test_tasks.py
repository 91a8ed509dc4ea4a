from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from strokes.envs.scenes.graph import INVERSE, TAGS, Edge, Graph
from strokes.envs.scenes.language import parse
from strokes.envs.scenes.layout import sample_layout
from strokes.envs.scenes.places import box_of
from strokes.envs.scenes.tasks import enumerate_graphs, heldout, sample_task, split_of, verdict


@dataclass
class Seen:
    shape: str
    color: str
    box: tuple
    score: float = 1.0


def seen(scene):
    return [Seen(item.shape, item.color, box_of(item)) for item in scene.objects]


def meta(text):
    return parse(text).to_meta()


def test_the_six_tasks_have_all_their_prompts():
    sizes = {tag: len({g.to_json().__repr__() for g in enumerate_graphs(tag)}) for tag in TAGS[:6]}
    assert sizes == {
        "single_object": 8, "two_object": 28, "counting": 24, "colors": 64, "position": 224, "color_attr": 1568,
    }  # fmt: skip
    assert all(graph.tag == tag for tag in TAGS[:6] for graph in enumerate_graphs(tag))


def test_satisfying_scenes_are_right_by_every_measure():
    rng = np.random.default_rng(0)
    for tag in TAGS:
        for _ in range(25):
            task = sample_task(rng, tag=tag)
            result = verdict(seen(sample_layout(task.graph, rng).scene), task.meta)
            assert result.correct and result.strict and result.soft == 1.0 and not result.reasons


@pytest.mark.parametrize(
    ("asked", "drawn", "correct", "soft"),
    [
        ("two stars", "a star", False, 0.5),
        ("two stars", "three stars", False, 0.9),  # exclude
        ("a star", "two stars", True, 0.9),  # surplus is forgiven officially, not strictly
        ("a star", "a star and a moon", True, 0.9),
        ("a red star", "a blue star", False, 0.5),
        ("a red star and a blue moon", "a blue star and a red moon", False, 0.5),
        ("a star", "nothing", False, 0.0),
        ("a star left of a moon", "a moon left of a star", False, 2 / 3),
        ("a star left of a moon", "a star", False, 1 / 3),  # its target failed
    ],
)
def test_a_violation_is_seen(asked, drawn, correct, soft):
    graph = parse(drawn)
    found = seen(sample_layout(graph, np.random.default_rng(1)).scene) if graph.nodes else []
    result = verdict(found, meta(asked))
    assert result.correct is correct
    assert not result.strict and result.reasons
    assert result.soft == pytest.approx(soft)


def test_a_right_drawing_with_every_shape_on_it_is_officially_right_and_strictly_wrong():
    shapes = ["circle", "square", "triangle", "star", "cross", "ring", "heart", "moon"]
    found = [Seen(s, "red", (6 * k, 0, 6 * k + 5, 5)) for k, s in enumerate(shapes)]
    result = verdict(found, meta("a heart"))
    assert result.correct and not result.strict and result.soft == pytest.approx(0.3)


def test_unknown_and_unsure_things_do_not_count_but_are_unexplained():
    box = (0, 0, 9, 9)
    unsure, unknown = Seen("star", "red", box, 0.3), Seen("unknown", "red", (20, 20, 29, 29), 0.9)
    assert not verdict([unsure], meta("a star")).correct
    result = verdict([Seen("star", "red", box, 0.31), unknown], meta("a star"))
    assert result.correct and not result.strict


def test_the_most_confident_objects_decide_the_official_colour():
    found = [Seen("star", "red", (0, 0, 9, 9), 0.8), Seen("star", "blue", (20, 0, 29, 9), 0.9)]
    assert not verdict(found, meta("a red star")).correct
    assert verdict(found, meta("a blue star")).correct


def test_a_held_out_graph_is_never_drawn_for_training_in_any_guise():
    held = {task.graph.canonical_hash() for task in heldout() if not task.seen}
    rng = np.random.default_rng(2)
    for _ in range(1500):
        task = sample_task(rng)
        graph = task.graph
        assert task.seen or split_of(graph) == "train"
        assert graph.canonical_hash() not in held
        inverse = Graph(graph.nodes[::-1], tuple(Edge(e.dst, INVERSE[e.rel], e.src) for e in graph.edges[:1]))
        if len(graph.edges) <= 1:
            assert inverse.canonical_hash() == graph.canonical_hash() and split_of(inverse) == split_of(graph)
    for tag in TAGS[3:]:
        for _ in range(200):
            assert split_of(sample_task(rng, tag=tag).graph) == "train"


def test_the_evaluation_set_is_large_enough_and_balanced():
    tasks = heldout()
    by_tag = {tag: [task for task in tasks if task.tag == tag] for tag in TAGS}
    graphs = {tag: {task.graph.canonical_hash() for task in group} for tag, group in by_tag.items()}
    assert {tag: len(graphs[tag]) for tag in TAGS[:4]} == {
        "single_object": 8, "two_object": 28, "counting": 24, "colors": 13,
    }  # fmt: skip
    assert len(graphs["position"]) >= 200 and len(graphs["color_attr"]) >= 200 and len(graphs["composition"]) >= 100
    relations = Counter(task.graph.edges[0].rel for task in by_tag["position"])
    assert len(relations) == 4 and len(set(relations.values())) == 1
    assert len({(task.prompt, task.seed) for task in tasks}) == len(tasks)
    assert all(split_of(task.graph) == "heldout" for task in tasks if not task.seen)
    assert {task.graph.nodes[0].shape for task in by_tag["colors"]} == {
        "circle", "square", "triangle", "star", "cross", "ring", "heart", "moon",
    }  # fmt: skip
    assert len({task.graph.nodes[0].color for task in by_tag["colors"]}) == 8


def test_a_limit_keeps_the_relations_balanced_and_the_set_stays_the_same():
    small = heldout(limit=40)
    assert Counter(task.tag for task in small)["position"] == 40
    assert set(Counter(t.graph.edges[0].rel for t in small if t.tag == "position").values()) == {10}
    assert [task.prompt for task in small] == [task.prompt for task in heldout(limit=40)]
    assert {task.prompt for task in small} <= {task.prompt for task in heldout()}


def test_held_out_relations_use_each_shape_equally_often():
    plain = [g for g in enumerate_graphs("position") if split_of(g) == "heldout"]
    counts = Counter(node.shape for graph in plain for node in graph.nodes)
    assert len(plain) == 48 and len(set(counts.values())) == 1


def test_unknown_splits_and_tags_are_refused():
    with pytest.raises(ValueError, match="split"):
        sample_task(np.random.default_rng(0), "test")
    with pytest.raises(ValueError, match="Expected one of"):
        sample_task(np.random.default_rng(0), tag="counts")
    with pytest.raises(ValueError, match="split"):
        heldout("all")
