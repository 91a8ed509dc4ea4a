import itertools

import numpy as np
import pytest

from strokes.envs.scenes.language import parse
from strokes.envs.scenes.layout import feasible, sample_layout
from strokes.envs.scenes.places import apart, box_of, cell_of, cells_hold, relative_position
from strokes.envs.scenes.render import SHAPES, Object, Scene, render
from strokes.envs.scenes.tasks import sample_task


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("size", [32, 48, 64, 128])
def test_a_layout_has_the_objects_apart_inside_and_in_relation(size, free):
    rng = np.random.default_rng(size)
    for _ in range(40):
        graph = sample_task(rng).graph
        layout = sample_layout(graph, rng, size, free=free)
        objects = layout.scene.objects
        assert sorted(layout.nodes) == sorted(node.id for node in graph.nodes for _ in range(node.count))
        for item, id, cell in zip(objects, layout.nodes, layout.cells, strict=True):
            node = graph.node(id)
            assert item.shape == node.shape and node.color in (None, item.color)
            assert cell == cell_of(item.x, item.y, size)
            left, top, right, bottom = box_of(item)
            assert left >= -0.01 and top >= -0.01 and right <= size + 0.01 and bottom <= size + 0.01
            assert all((4 * value).is_integer() for value in (item.x, item.y, item.radius))
        assert list(layout.cells) == sorted(layout.cells)
        if not free:
            assert len(set(layout.cells)) == len(layout.cells)
        assert all(apart(a, b, size / 48) for a, b in itertools.combinations(objects, 2))
        by_id = dict(zip(layout.nodes, objects, strict=True))
        for edge in graph.edges:
            assert edge.rel in relative_position(box_of(by_id[edge.src]), box_of(by_id[edge.dst]))


def test_kept_objects_stay_and_the_rest_is_laid_out_around_them():
    rng = np.random.default_rng(0)
    graph = parse("a red circle left of a blue square, and two green stars")
    square, star = Object("square", "blue", 24.0, 24.5, 6.0), Object("star", "green", 8.0, 8.0, 5.5)
    for _ in range(20):
        layout = sample_layout(graph, rng, kept=[(square, 1), (star, 2)], prefer=[8])
        assert square in layout.scene.objects and star in layout.scene.objects
        assert 8 in layout.cells
    with pytest.raises(ValueError, match="fits"):
        sample_layout(graph, rng, kept=[(Object("square", "blue", 8.0, 24.0, 6.0), 1)])


def test_what_does_not_fit_is_refused():
    for text in ("seven stars", "a circle left of a square, the square left of a star, and the star left of a moon"):
        assert not feasible(parse(text))
        with pytest.raises(ValueError, match="at most 6"):
            sample_layout(parse(text), np.random.default_rng(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_box_of_an_object_is_the_box_of_its_pixels(shape):
    item = Object(shape, "black", 24.25, 23.5, 9.0)
    ys, xs = np.nonzero(render(Scene((item,), 48)).min(2) < 135)
    assert np.allclose(
        box_of(item), (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), atol=2.0 if shape == "moon" else 1.0
    )


@pytest.mark.parametrize(
    ("a", "b", "holds"),
    [
        ((0, 0, 10, 10), (20, 0, 30, 10), {"left of"}),
        ((20, 0, 30, 10), (0, 0, 10, 10), {"right of"}),
        ((0, 0, 10, 10), (0, 20, 10, 30), {"above"}),
        ((0, 20, 10, 30), (0, 0, 10, 10), {"below"}),
        ((0, 0, 10, 10), (2, 2, 12, 12), set()),  # inside the dead zone
        ((0, 0, 10, 10), (30, 30, 40, 40), {"left of", "above"}),  # a diagonal holds both
        ((0, 0, 10, 10), (40, 10, 50, 20), {"left of"}),
        ((0, 0, 10, 10), (0, 0, 10, 10), set()),
    ],
)
def test_relations_follow_geneval_s_box_rule(a, b, holds):
    assert relative_position(a, b) == holds


def test_cells_hold_what_their_centres_hold():
    for a, b in itertools.permutations(range(9), 2):
        boxes = [(16 * (c % 3) + 3, 16 * (c // 3) + 3, 16 * (c % 3) + 13, 16 * (c // 3) + 13) for c in (a, b)]
        for rel in ("left of", "right of", "above", "below"):
            assert cells_hold(rel, a, b) == (rel in relative_position(*boxes))


def test_the_same_seed_gives_the_same_layout():
    graph = parse("three stars")
    assert sample_layout(graph, np.random.default_rng(7)) == sample_layout(graph, np.random.default_rng(7))
