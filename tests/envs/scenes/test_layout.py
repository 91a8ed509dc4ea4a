import collections
import itertools
import math

import numpy as np
import pytest

from strokes.envs.scenes import places
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


def in_single_precision(a, b, dead_zone):
    """GenEval's rule step by step; every number is rounded to single precision."""
    f, (a, b) = np.float32, np.array([a, b], np.float32)
    off = [(a[k] + a[k + 2]) / f(2) - (b[k] + b[k + 2]) / f(2) for k in (0, 1)]
    both = [abs(a[k + 2] - a[k]) + abs(b[k + 2] - b[k]) for k in (0, 1)]
    rev = [np.sign(o) * max(abs(o) - f(dead_zone) * s, f(0)) for o, s in zip(off, both, strict=True)]
    if all(abs(r) < f(1e-3) for r in rev):
        return set()
    dx, dy = (r / np.linalg.norm(np.array(off)) for r in rev)
    return {n for n, v in (("left of", -dx), ("right of", dx), ("above", -dy), ("below", dy)) if v > f(0.5)}


def pairs_of_boxes(rng, number):
    """Boxes anywhere, on the grid of pixels, and within a few float32 steps of where a relation begins."""
    for k in range(number):
        scale = 10 ** rng.uniform(-3, 4)
        a, b = rng.uniform(-scale, scale, (2, 4))
        if k % 4 == 1:
            a, b = rng.integers(0, 24, (2, 4)).astype(float)
        elif k % 4 > 1:
            w, h = abs(a[2] - a[0]), abs(a[3] - a[1])
            y = rng.uniform(-3, 3) * w
            low, high = 0.2 * w, 10 * (w + abs(y))
            for _ in range(80):  # where the ratio passes a half, or where there is a relation at all
                x = (low + high) / 2
                low, high = (x, high) if x - 0.2 * w < (0.5 * np.hypot(x, y) if k % 4 == 2 else 1e-3) else (low, x)
            y = y if k % 4 == 2 else rng.uniform(-0.2, 0.2) * h
            b = a + np.array([low, y, low, y])
            b = b.astype(np.float32)
            b += rng.integers(-3, 4, 4).astype(np.float32) * np.spacing(b)
        yield tuple(map(float, a.astype(np.float32))), tuple(map(float, b.astype(np.float32)))


def test_relations_are_those_of_single_precision_at_the_edges_too():
    rng, held = np.random.default_rng(3), collections.Counter()
    for a, b in pairs_of_boxes(rng, 20_000):
        zone = 0.1 if rng.random() < 0.9 else float(rng.choice([0.0, 0.05, 0.5, 1.0]))
        relations = relative_position(a, b, dead_zone=zone)
        assert relations == in_single_precision(a, b, zone), (a, b, zone)
        held[len(relations)] += 1
    assert min(held[k] for k in (0, 1, 2)) > 1000


def test_boxes_far_from_the_edges_need_no_single_precision(monkeypatch):
    """It takes four times as long, and is asked for every pair of a layout and of a verdict."""
    monkeypatch.setattr(places, "_in_single_precision", lambda *_: pytest.fail("asked for"))
    for other, held in (((20, 3, 30, 13), {"left of"}), ((2, 2, 12, 12), set()), ((0, 0, 10, 10), set())):
        assert relative_position((0, 0, 10, 10), other) == held


@pytest.mark.parametrize("odd", [math.nan, math.inf, 1e30])
def test_boxes_out_of_all_bounds_hold_what_single_precision_says(odd):
    with np.errstate(all="ignore"):
        for a, b in itertools.permutations([(0, 0, 10, 10), (odd, 0, 10, 10), (20, odd, 30, 10)], 2):
            assert relative_position(a, b) == in_single_precision(a, b, 0.1)
