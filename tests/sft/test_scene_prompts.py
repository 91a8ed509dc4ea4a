"""What the data set draws: nothing that is evaluated, nothing twice where there is enough, the same every time."""

from collections import Counter

import pytest

from strokes.envs.scenes.graph import TAGS, Edge, Graph, Node
from strokes.envs.scenes.language import parse
from strokes.envs.scenes.tasks import heldout, split_of
from strokes.sft.benchmark_prompts import is_benchmark, normalised
from strokes.sft.scene_prompts import SEEN, data_split, scene_prompts

NUM = 3_000


@pytest.fixture(scope="module")
def tasks():
    return scene_prompts(0, NUM)


def counts(tasks, tag):
    return Counter(task.graph.canonical_hash() for task in tasks if task.tag == tag)


def test_no_prompt_is_held_out_or_asked_by_a_benchmark(tasks):
    evaluated = {task.graph.canonical_hash() for task in heldout() if not task.seen}
    for task in tasks:
        assert split_of(task.graph) == "train" and not is_benchmark(task.prompt)
        assert task.graph.canonical_hash() not in evaluated


def test_no_graph_is_in_training_and_validation(tasks):
    kept = scene_prompts(0, 100, "validation") + scene_prompts(7, 100, "validation")
    assert {data_split(task.graph) for task in tasks} == {"train"}
    assert {data_split(task.graph) for task in kept} == {"validation"}
    assert not {task.tag for task in kept} & set(SEEN)
    assert {"position", "color_attr", "composition"} <= {task.tag for task in kept}


def test_what_has_enough_graphs_comes_once_and_the_rest_takes_turns(tasks):
    assert {task.tag for task in tasks} == set(TAGS)
    for tag in ("composition", "color_attr"):
        assert set(counts(tasks, tag).values()) == {1}
    colored = [task for task in tasks if task.tag == "position" and task.graph.nodes[0].color]
    assert set(counts(colored, "position").values()) == {1} and len(colored) > NUM // 10
    for tag in ("single_object", "two_object", "counting", "colors"):
        times = counts(tasks, tag).values()
        assert max(times) - min(times) <= 1
    assert [len(counts(tasks, tag)) for tag in SEEN] == [8, 28, 24]


def test_prompts_say_what_their_graphs_ask_for_from_either_side(tasks):
    assert all(parse(task.prompt).canonical_hash() == task.graph.canonical_hash() for task in tasks)
    relations = Counter(task.graph.edges[0].rel for task in tasks if task.tag == "position")
    assert set(relations) == {"left of", "right of", "above", "below"}
    assert max(relations.values()) < 1.5 * min(relations.values())


def test_slices_are_parts_of_one_list_that_the_seed_decides(tasks):
    prompts = [task.prompt for task in tasks]
    assert [task.prompt for task in scene_prompts(0, NUM, "train", 500, 507)] == prompts[500:507]
    assert [task.prompt for task in scene_prompts(0, NUM, "train", NUM - 3, NUM + 5)] == prompts[-3:]
    assert [task.prompt for task in scene_prompts(1, NUM, "train", 0, 20)] != prompts[:20]


def test_the_split_does_not_depend_on_how_a_graph_is_told():
    left = Graph((Node(0, "star", "red"), Node(1, "moon", "blue")), (Edge(0, "left of", 1),))
    right = Graph((Node(0, "moon", "blue"), Node(1, "star", "red")), (Edge(0, "right of", 1),))
    assert data_split(left) == data_split(right)


def test_another_split_is_refused():
    with pytest.raises(ValueError, match="train, validation, got 'heldout'"):
        scene_prompts(0, 10, "heldout")


def test_benchmarks_are_recognised_however_they_are_written():
    assert normalised("  A photo of\ta Bench. ") == "a photo of a bench"
    assert is_benchmark("A Photo of a bench!") and not is_benchmark("a photo of a dragon")
    held = next(task for task in heldout() if task.tag == "composition")
    assert is_benchmark(held.prompt.upper())
    assert is_benchmark("A poem.", others={"a poem"})
