"""What mmdet does before and after Mask2Former, against slow references."""

import numpy as np
import pytest

from strokes.rewards import geneval_segmenter
from strokes.rewards.geneval_prompts import CLASSES
from strokes.rewards.geneval_segmenter import instances, prepare

torch = pytest.importorskip("torch")


def enlarged(grid, height, width):
    """Bilinear interpolation, pixel centres at halves, ends repeated: one pixel after the other."""
    out = np.empty((height, width))
    for y in range(height):
        v = max((y + 0.5) * grid.shape[0] / height - 0.5, 0)
        top, bottom = int(v), min(int(v) + 1, grid.shape[0] - 1)
        for x in range(width):
            u = max((x + 0.5) * grid.shape[1] / width - 0.5, 0)
            left, right = int(u), min(int(u) + 1, grid.shape[1] - 1)
            upper = grid[top, left] * (1 - u + left) + grid[top, right] * (u - left)
            lower = grid[bottom, left] * (1 - u + left) + grid[bottom, right] * (u - left)
            out[y, x] = upper * (1 - v + top) + lower * (v - top)
    return out


@pytest.mark.parametrize(
    ("padded", "inner", "size"),
    [((64, 96), (64, 70), (30, 33)), ((96, 32), (80, 20), (40, 10)), ((64, 64), (64, 64), (48, 48))],
)
def test_instances_are_those_of_a_slow_reference(padded, inner, size):
    rng = np.random.default_rng(3)
    classes = rng.normal(0, 3, (4, len(CLASSES) + 1)).astype(np.float32)
    masks = rng.normal(0, 4, (4, padded[0] // 16, padded[1] // 16)).astype(np.float32)
    found = instances(
        torch.from_numpy(classes), torch.from_numpy(masks), padded=padded, inner=inner, size=size, least=0.02
    )
    expected = []
    for query in range(4):
        shares = np.exp(classes[query]) / np.exp(classes[query]).sum()
        whole = enlarged(enlarged(masks[query], *padded)[: inner[0], : inner[1]], *size)
        inside = whole > 0
        certainty = (1 / (1 + np.exp(-whole)))[inside].mean()
        ys, xs = np.nonzero(inside)
        for label, share in enumerate(shares[:-1]):
            if share * certainty > 0.02:
                box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
                expected.append((CLASSES[label], share * certainty, box, inside))
    got = sorted(((name, item) for name, items in found.items() for item in items), key=lambda pair: pair[1].score)
    expected.sort(key=lambda each: each[1])
    assert len(expected) > 4
    assert [name for name, _ in got] == [name for name, *_ in expected]
    for (_, item), (_, score, box, inside) in zip(got, expected, strict=True):
        assert item.score == pytest.approx(score, abs=1e-5)
        assert item.box == box
        assert np.array_equal(item.mask, inside)


def test_a_hundred_pairs_are_looked_at_and_an_empty_mask_is_nothing():
    classes = torch.linspace(2, 4, len(CLASSES) + 1)[None].repeat(2, 1)
    classes[:, -1] = torch.tensor([9.0, 0.0])  # every pair of the second query is more probable
    masks = torch.stack([torch.ones(2, 2), -torch.ones(2, 2)])
    found = instances(classes, masks, padded=(32, 32), inner=(32, 32), size=(32, 32), least=0.0)
    assert sorted(found, key=CLASSES.index) == list(CLASSES[-20:])


@pytest.mark.parametrize(
    ("size", "inner", "padded"),
    [
        ((1024, 1024), (800, 800), (800, 800)),
        ((512, 768), (800, 1200), (800, 1216)),
        ((300, 900), (444, 1333), (448, 1344)),
        ((901, 333), (1333, 493), (1344, 512)),
    ],
)
def test_images_are_prepared_as_by_mmdet(size, inner, padded):
    image = np.full((*size, 3), (10, 200, 30), np.uint8)
    pixels, got = prepare(image)
    assert (got, tuple(pixels.shape)) == (inner, (1, 3, *padded))
    mean, std = np.array((123.675, 116.28, 103.53)), np.array((58.395, 57.12, 57.375))
    assert np.allclose(pixels[0, :, inner[0] - 1, inner[1] - 1], (np.array((10, 200, 30)) - mean) / std, atol=1e-5)
    if inner != padded:
        assert np.allclose(pixels[0, :, -1, -1], (128 - mean) / std, atol=1e-5)


def test_pixels_between_are_interpolated(monkeypatch):
    monkeypatch.setattr(geneval_segmenter, "_SHORT", 48)
    image = np.random.default_rng(0).integers(0, 256, (32, 40, 3)).astype(np.uint8)
    pixels, inner = prepare(image)
    got = np.asarray(pixels[0, 0, : inner[0], : inner[1]]) * 58.395 + 123.675
    assert np.allclose(got, enlarged(image[..., 0].astype(float), *inner), atol=0.51)
