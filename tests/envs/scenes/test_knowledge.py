"""The knowledge benchmark: its prompts, their answers, and what is held out."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from strokes.envs.scenes.detect import detect
from strokes.envs.scenes.graph import Graph
from strokes.envs.scenes.knowledge import all_knowledge, item_of, knowledge_items
from strokes.envs.scenes.knowledge_facts import COLOR_FACTS, COUNT_FACTS
from strokes.envs.scenes.language import supported
from strokes.envs.scenes.render import COLORS, Object, Scene, render
from strokes.envs.scenes.tasks import split_of
from strokes.envs.scenes.verdicts import verdict

CATEGORIES = {"CULTURE": 104, "BIOLOGY": 96, "CHEMISTRY": 96, "PHYSICS": 72, "SPACE": 72, "TIME": 64}


def answer(prompt: str) -> dict:
    item = item_of(prompt)
    assert item is not None, prompt
    return item.meta


def test_there_are_504_one_hop_prompts_and_680_pairs_in_eight_shapes():
    items = all_knowledge()
    one, two = ([item for item in items if item.hops == hops] for hops in (1, 2))
    assert Counter(item.category for item in one) == CATEGORIES
    assert len(COLOR_FACTS) + len(COUNT_FACTS) == 54
    assert Counter(Counter(item.facts for item in two).values()) == {8: 680}
    assert len({item.prompt for item in items}) == len(items) == 504 + 5440
    assert [item.prompt_id for item in items] == list(range(1, len(items) + 1))


def test_prompts_name_no_answer_and_need_knowledge():
    for item in all_knowledge():
        assert not supported(item.prompt), item.prompt
        if item.hops == 2:
            (node,) = item.graph.nodes
            assert not {str(node.color), str(node.count)} & set(item.prompt.replace(",", "").split()), item.prompt


@pytest.mark.parametrize(
    "prompt, include",
    [
        ("a star in the colour of a ripe banana", [{"class": "star", "count": 1, "color": "yellow"}]),
        ("as many hearts as there are legs of a spider", [{"class": "heart", "count": 8}]),
        (
            "as many crosses as there are rings on the Olympic flag, all in the colour of a Dutch national football "
            "shirt",
            [{"class": "cross", "count": 5, "color": "orange"}],
        ),
    ],
)
def test_answers_of_prompts(prompt, include):
    assert answer(prompt)["include"] == include


def test_directions_and_mirrors_are_resolved():
    found = defaultdict(set)
    for item in all_knowledge():
        if item.category == "SPACE":
            edge = item.graph.edges[0]
            first, second = item.graph.node(edge.src).shape, item.graph.node(edge.dst).shape
            words = item.prompt.replace(first, "A", 1) if first != second else item.prompt
            said = words.rsplit(second, 1)[0].split("A ", 1)[1].strip().removesuffix(" a")
            found[("mirror " if "mirror" in item.prompt else "") + said].add(edge.rel)
    assert found == {
        "north of": {"above"},
        "south of": {"below"},
        "east of": {"right of"},
        "west of": {"left of"},
        "at twelve o'clock from": {"above"},
        "at three o'clock from": {"right of"},
        "at six o'clock from": {"below"},
        "at nine o'clock from": {"left of"},
        "mirror left of": {"right of"},
        "mirror right of": {"left of"},
    }


def test_items_have_the_keys_of_wise_and_their_answer():
    for item in knowledge_items(limit=2):
        record = item.to_json()
        assert list(record)[:5] == ["Prompt", "Explanation", "Category", "Subcategory", "prompt_id"]
        assert Graph.from_json(record["graph"]) == item.graph and record["meta"] == item.graph.to_meta()
        assert Graph.from_meta(record["meta"]).canonical() == item.graph.canonical()
        assert item_of(record["Prompt"]) == item


def test_what_is_held_out_are_combinations_never_facts():
    train, heldout = ([i for i in all_knowledge() if i.is_heldout == held] for held in (False, True))
    known = {fact.text for fact in (*COLOR_FACTS, *COUNT_FACTS)}
    shapes = defaultdict(set)
    for item in train:
        assert split_of(item.graph) == "train"
        for fact in item.facts:
            shapes[fact].add(item.graph.nodes[0].shape)
    assert known <= set(shapes)
    for fact in known:
        assert len(shapes[fact]) <= 6
        assert any(item.facts == (fact,) for item in train), fact
        held = {i.graph.nodes[0].shape for i in heldout if i.facts == (fact,)}
        assert len(held) >= 2 and held - shapes[fact], fact
    pairs = {item.facts for item in heldout if item.hops == 2} - {item.facts for item in train}
    assert len(pairs) >= 100


def test_the_evaluation_set_holds_new_pairs_and_shapes_of_all_categories():
    items = knowledge_items()
    trained = {item.facts for item in all_knowledge() if not item.is_heldout and item.hops == 2}
    assert 250 <= len(items) <= 450 and all(item.is_heldout for item in items)
    assert set(Counter(item.category for item in items)) == set(CATEGORIES)
    assert {item.prompt_id for item in items} >= {i.prompt_id for i in all_knowledge() if i.hops == 1 and i.is_heldout}
    pairs = [item.facts for item in items if item.hops == 2]
    assert len(pairs) == len(set(pairs)) and not set(pairs) & trained
    assert not {item.prompt_id for item in knowledge_items("train")} & {item.prompt_id for item in items}


def test_a_limit_takes_so_many_of_each_category_always_the_same():
    few, more = knowledge_items(limit=3), knowledge_items(limit=10)
    assert Counter(item.category for item in few) == dict.fromkeys(CATEGORIES, 3)
    ids = [item.prompt_id for item in more]
    assert ids == sorted(ids) and {item.prompt_id for item in few} <= set(ids)
    assert {item.hops for item in more} == {1, 2}


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="'test'"):
        knowledge_items("test")


def test_the_most_there_is_to_draw_fits_on_the_default_canvas():
    item = max(knowledge_items(), key=lambda item: item.graph.total)
    (node,) = item.graph.nodes
    assert node.count == 8
    rng = np.random.default_rng(0)
    cells = rng.permutation(9)[: node.count]
    objects = [
        Object(node.shape, node.color or list(COLORS)[k], 8 + 16 * int(c % 3), 8 + 16 * int(c // 3), 5.5)
        for k, c in enumerate(cells)
    ]
    assert verdict(detect(render(Scene(tuple(objects), 48))), item.meta).strict


def test_unknown_prompts_have_no_item():
    assert item_of("a red circle") is None
