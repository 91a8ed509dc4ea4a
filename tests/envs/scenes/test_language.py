import re

import numpy as np
import pytest

from strokes.agents.edits import random_scene, sample_edit, sample_fault
from strokes.agents.scripted import TEACHING, demonstrate
from strokes.envs.markup import parse_inspection, parse_plan
from strokes.envs.scenes.changes import Fault, Thing, graph_of, things_of
from strokes.envs.scenes.graph import Edge, Graph, Node
from strokes.envs.scenes.language import (
    VOCABULARY,
    Report,
    describe,
    describe_edits,
    describe_report,
    parse,
    parse_edits,
    parse_report,
    supported,
)
from strokes.envs.scenes.tasks import TAGS, sample_graph, sample_task
from strokes.envs.stages import Stage

HOUSE = "a red circle left of a blue square, and two green stars"


def words(text):
    return re.findall(r"[a-z]+|[^\sa-z]", text)


def test_prompts_of_all_tasks_come_back_as_written():
    rng = np.random.default_rng(0)
    for tag in TAGS:
        for _ in range(60):
            graph = sample_graph(tag, rng)
            text = describe(graph)
            assert parse(text).canonical_hash() == graph.canonical_hash(), text
            assert describe(parse(text)) == text
            assert supported(text)
            assert set(words(text)) <= set(VOCABULARY)


def test_descriptions_of_scenes_come_back_as_written():
    rng = np.random.default_rng(1)
    for _ in range(60):
        graph = graph_of(random_scene(rng))
        assert parse(describe(graph)) == graph
    assert parse(describe(Graph(()))) == Graph(())


@pytest.mark.parametrize(
    "text",
    [
        "A red circle to the left of the blue square and 2 green stars.",
        "a drawing of a red circle left of a blue square, two green stars",
        "two green stars, and a red circle on the left of a blue square",
        "a blue square right of a red circle, and two green stars",
    ],
)
def test_other_ways_to_say_the_same_are_understood(text):
    assert parse(text).canonical_hash() == parse(HOUSE).canonical_hash()


def test_a_later_the_refers_to_what_was_named():
    graph = parse("a red circle left of a blue square, and a star above the square")
    assert graph.edges == (Edge(0, "left of", 1), Edge(2, "above", 1))
    assert graph.nodes[1] == Node(1, "square", "blue")


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("a dog", "a dog"),
        ("a red circle and a mauve star", "a mauve star"),
        ("stars", "stars"),
        ("a circle and a circle", "a circle"),
        ("a circle near a star", "near a star"),
        ("", ""),
        ("a red circle and twelve stars", "twelve stars"),
        ("12 stars", "12 stars"),
    ],
)
def test_what_is_not_understood_is_named(text, phrase):
    with pytest.raises(ValueError, match="got '" + re.escape(phrase)):
        parse(text)
    assert not supported(text)


@pytest.mark.parametrize(
    "text",
    ["seven stars", "four hearts and three moons", "null", "${x}", "🐈", "<ins>a</ins>", "a\nb",
     "a circle left of a square, the square left of a star, and the star left of a moon"],
)  # fmt: skip
def test_what_cannot_be_drawn_is_not_supported(text):
    assert not supported(text)


def test_edits_come_back_as_written():
    rng = np.random.default_rng(2)
    for _ in range(200):
        text = sample_edit(rng).ins
        assert describe_edits(parse_edits(text)) == text
        assert set(words(text)) <= set(VOCABULARY)


@pytest.mark.parametrize(
    "text",
    [
        "add a red circle at the top left and a blue square at the right",
        "add a red circle at the top left, a blue square at the right and an orange moon at the bottom",
        "add a star at the top; as a placeholder, add a pink moon at the center; remove the green star at the right",
        "swap the red circle at the left and the blue square at the center; redraw the red circle at the left",
        "remove the blot at the bottom left",
        "change the blue circle at the left to red",
        "replace the red star at the top with an orange moon",
    ],
)
def test_every_kind_of_edit_can_be_said(text):
    assert describe_edits(parse_edits(text)) == text


def test_an_instruction_outside_the_language_is_named():
    with pytest.raises(ValueError, match="paint a cat"):
        parse_edits("add a red circle at the left; paint a cat")
    with pytest.raises(ValueError, match="a place"):
        parse_edits("add a red circle at the moon")


@pytest.mark.parametrize(
    "report",
    [
        Report(complete=True),
        Report(),
        Report(judged=False),
        Report(
            missing=parse("two green stars and a moon"), pending=(Thing("star", "red", 1), Thing("moon", "blue", 3))
        ),
        Report(pending=(Thing("star", "red", 1),)),
        Report(
            faults=(
                Fault("wrong", Thing("circle", "blue", 3), Thing("circle", "red", 3)),
                Fault("unclear", Thing(None, None, 4), Thing("ring", "orange", 4)),
                Fault("missing", wanted=Thing("star", "red", 0)),
                Fault("extra", Thing("ring", "orange", 8)),
                Fault("extra", Thing(None, None, 8)),
                Fault("misplaced", Thing("moon", "pink", 1), Thing("moon", "pink", 7)),
            )
        ),
        Report(
            faults=(
                Fault("unasked", Thing("star", "red", 2)),
                Fault("dropped", wanted=Thing("star", "red")),
                Fault(
                    "broken", relation=Graph((Node(0, "circle", "red"), Node(1, "square")), (Edge(0, "left of", 1),))
                ),
            )
        ),
    ],
)
def test_inspections_come_back_as_written(report):
    text = describe_report(report)
    assert parse_report(text) == report
    assert set(words(text)) <= set(VOCABULARY)


def test_free_words_are_no_inspection():
    with pytest.raises(ValueError, match="looks good"):
        parse_report("looks good to me")


def test_the_third_word_after_a_sketch_decides():
    rng = np.random.default_rng(3)
    for _ in range(100):
        example = sample_fault(rng)
        third = example.comment.split()[2]
        assert (third == "follows") == (example.refine is None)


def test_everything_a_painter_says_is_in_the_vocabulary_and_can_be_read():
    rng = np.random.default_rng(4)
    for _ in range(60):
        transcript = demonstrate(sample_task(rng), rng, habits=TEACHING)
        for entry in transcript.emissions:
            if entry.stage is Stage.PLAN:
                plan = parse_plan(entry.content)
                assert describe_edits(parse_edits(plan.ins)) == plan.ins
                assert describe(parse(plan.des)) == plan.des
                assert set(words(plan.ins + " " + plan.des)) <= set(VOCABULARY)
            if entry.stage is Stage.INSPECT:
                inspection = parse_inspection(entry.content)
                assert describe_report(parse_report(inspection.comment)) == inspection.comment
                if inspection.refine is not None:
                    assert describe_edits(parse_edits(inspection.refine)) == inspection.refine


def test_the_vocabulary_is_small_and_lower_case():
    assert len(VOCABULARY) <= 100
    assert all(word == word.lower() and " " not in word for word in VOCABULARY)


def test_a_scene_in_words_counts_equal_objects():
    scene = random_scene(np.random.default_rng(5), num=3)
    assert parse(describe(graph_of(scene))).total == len(things_of(scene)) == 3
