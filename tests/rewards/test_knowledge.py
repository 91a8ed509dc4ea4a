"""The exact judge of the knowledge benchmark: right, wrong and cunning canvases."""

import pickle

import numpy as np
import pytest

from strokes.envs.scenes.graph import Graph
from strokes.envs.scenes.knowledge import KnowledgeItem, item_of, knowledge_items
from strokes.envs.scenes.layout import feasible, place, sample_layout
from strokes.envs.scenes.render import COLORS, SHAPES, Object, Scene, render
from strokes.rewards.knowledge import KnowledgeJudge, marks_of, wise_items
from strokes.rewards.question import Request
from strokes.rewards.wise import WISE_V1, WISE_VERIFIED
from strokes.rewards.wise_scores import score_images
from strokes.rewards.wise_totals import summarise_wise

SIZE = 64
ITEMS = knowledge_items(limit=12)


def draw(graph: Graph, rng: np.random.Generator) -> np.ndarray:
    """A canvas with exactly what a graph asks for."""
    if feasible(graph):
        return render(sample_layout(graph, rng, SIZE).scene)
    (node,) = graph.nodes
    objects: list[Object] = []
    for cell in rng.permutation(9)[: node.count]:
        spot = place(node.shape, int(cell), rng, SIZE, objects)
        objects.append(Object(node.shape, node.color or list(COLORS)[int(rng.integers(8))], *spot))
    return render(Scene(tuple(objects), SIZE))


def one_of_each(rng: np.random.Generator) -> np.ndarray:
    cells, colors = rng.permutation(9), rng.permutation(8)
    objects = [
        Object(shape, list(COLORS)[int(colors[k])], *place(shape, int(cells[k]), rng, SIZE))
        for k, shape in enumerate(SHAPES)
    ]
    return render(Scene(tuple(objects), SIZE))


def known(prompt: str) -> KnowledgeItem:
    item = item_of(prompt)
    assert item is not None
    return item


def canvas(*objects: tuple[str, str, float, float, float]) -> np.ndarray:
    return render(Scene(tuple(Object(*each) for each in objects), SIZE))


def judged(images, protocol=WISE_V1):
    return score_images(KnowledgeJudge(), protocol, wise_items(ITEMS), images)


def test_right_scenes_score_one():
    rng = np.random.default_rng(0)
    images = [draw(item.graph, rng) for item in ITEMS]
    summary = summarise_wise(WISE_V1, wise_items(ITEMS), judged(images))
    assert summary.overall == pytest.approx({"official_weighted": 1, "bagel_unweighted": 1})
    binary = summarise_wise(WISE_VERIFIED, wise_items(ITEMS), judged(images, WISE_VERIFIED))
    assert binary.overall == pytest.approx({"official_weighted": 1, "bagel_unweighted": 1})


def test_scenes_of_other_prompts_have_little_but_the_floor_and_nothing_of_it_when_gated():
    rng = np.random.default_rng(1)
    images = [draw(item.graph, rng) for item in ITEMS]
    scores = judged(images[30:] + images[:30])
    wiscore, gated = (np.mean([getattr(score, name) for score in scores]) for name in ("wiscore", "gated"))
    assert 0.3 <= wiscore < 0.37 and gated < 0.06


@pytest.mark.parametrize("kind", ["uniform", "blank", "noise", "one of each"])
def test_cunning_canvases_are_consistent_with_no_prompt(kind):
    rng = np.random.default_rng(2)

    def make() -> np.ndarray:
        if kind == "one of each":
            return one_of_each(rng)
        if kind == "noise":
            return rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
        return np.full((SIZE, SIZE, 3), 255 if kind == "blank" else rng.integers(0, 256, 3), np.uint8)

    scores = judged([make() for _ in ITEMS])
    assert {score.marks["consistency"] for score in scores} == {0}
    assert {score.gated for score in scores} == {0}


BANANA = known("a star in the colour of a ripe banana")


@pytest.mark.parametrize(
    "image, marks",
    [
        (canvas(("star", "yellow", 32, 32, 9)), (2, 2, 2)),
        (canvas(("star", "red", 32, 32, 9)), (1, 2, 2)),
        (canvas(("circle", "yellow", 32, 32, 9)), (0, 2, 2)),
        (canvas(("star", "yellow", 20, 32, 9), ("circle", "red", 48, 32, 8)), (1, 2, 2)),
        (canvas(("star", "yellow", 7, 32, 9)), (2, 2, 1)),
        (canvas(), (0, 2, 0)),
    ],
    ids=["right", "wrong colour", "wrong shape", "one too many", "at the border", "empty"],
)
def test_marks_of_canvases(image, marks):
    assert tuple(marks_of(image, BANANA).values()) == marks


def test_what_is_no_shape_costs_beauty_and_consistency():
    image = canvas(("star", "yellow", 20, 32, 9))
    image[20:44, 44:48] = image[20:24, 44:62] = (10, 145, 55)  # an L
    assert tuple(marks_of(image, BANANA).values())[::2] == (1, 1)


def test_noise_and_blur_cost_realism_first():
    rng = np.random.default_rng(3)
    image = canvas(("star", "yellow", 32, 32, 9)).astype(float)
    marks = [
        marks_of(np.clip(image + rng.normal(0, sigma, image.shape), 0, 255).astype(np.uint8), BANANA)["realism"]
        for sigma in (5, 30, 90)
    ]
    assert marks == [2, 1, 0]


def test_prompts_of_other_benchmarks_are_refused_and_the_judge_travels():
    judge = pickle.loads(pickle.dumps(KnowledgeJudge()))
    request = Request(question=WISE_V1.question(), fields={"prompt": "a red circle"}, images=(canvas(),))
    (verdict,) = judge.ask([request])
    assert verdict.status == "refused" and verdict.data is None and "a red circle" in verdict.error


@pytest.mark.parametrize("reader", ["official", "strict"])
def test_its_replies_can_be_read_in_both_ways(reader):
    image, item = canvas(("star", "yellow", 32, 32, 9)), wise_items([BANANA])
    for protocol in (WISE_V1, WISE_VERIFIED):
        (score,) = score_images(KnowledgeJudge(), protocol, item, [image], question=protocol.question(reader))
        assert score.wiscore == pytest.approx(1) and score.attempts == 1
