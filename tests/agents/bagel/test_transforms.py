"""Image transforms apart from the golden sizes."""

import numpy as np
import pytest
import torch
from PIL import Image

from strokes.agents.bagel import ImageTransform
from strokes.agents.bagel.embeddings import patchify, unpatchify
from strokes.agents.bagel.transforms import to_pixels, to_rgb


def test_transparency_becomes_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 255, 255))
    assert np.array(to_rgb(image)).tolist() == [[[255, 255, 255], [0, 0, 255]]]
    palette = Image.new("P", (1, 1), 0)
    palette.info["transparency"] = 0
    assert np.array(to_rgb(palette)).tolist() == [[[255, 255, 255]]]
    assert np.array(to_rgb(Image.new("L", (1, 1), 7))).tolist() == [[[7, 7, 7]]]


def test_an_image_of_the_right_size_is_left_alone():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8))
    transform = ImageTransform(48, 48, 16)
    assert transform.resize(image) is image
    assert torch.equal(transform(image), to_pixels(np.array(image)))


def test_pixels_are_exact_at_the_ends():
    x = to_pixels(np.array([[[0, 255, 128]]], np.uint8))
    assert x.flatten().tolist() == pytest.approx([-1.0, 1.0, 128 / 127.5 - 1], abs=1e-6)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)])
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="uint8 image"):
        to_pixels(image)


def test_patches_come_apart_and_together():
    images = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    tokens = patchify(images, 2)
    assert tokens[0, 1].tolist() == images[0, :, :2, 2:4].permute(1, 2, 0).flatten().tolist()
    assert torch.equal(unpatchify(tokens, 2, (2, 3)), images)
    with pytest.raises(ValueError, match="divisible by 5"):
        patchify(images, 5)
