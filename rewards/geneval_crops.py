"""Crops: what a colour classifier is shown of an object, pixel by pixel as GenEval shows it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .geneval import ORIGINAL, Found, Rule

_MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
_STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)
"""CLIP's (github.com/openai/CLIP)."""


def crops(image: np.ndarray, found: Sequence[Found], rule: Rule) -> list[Image.Image]:
    """Each object on a plain ground, cut out by its box.

    A box is rounded half to even; what lies outside the image is black. Without a mask the ground stays.

    Args:
        image: uint8 (height, width, 3).
        found: Objects on it.
        rule: Its ``bgcolor`` and ``crop`` are read.
    """
    whole = Image.fromarray(image)
    ground = whole if rule.bgcolor == ORIGINAL else Image.new("RGB", whole.size, rule.bgcolor)
    return [_crop(whole, ground, item, rule.crop) for item in found]


def _crop(whole: Image.Image, ground: Image.Image, item: Found, crop: bool) -> Image.Image:
    shown = whole
    if item.mask is not None:
        assert item.mask.shape == whole.size[::-1], f"a mask of {item.mask.shape} for an image of {whole.size[::-1]}"
        shown = Image.composite(whole, ground, Image.fromarray(item.mask))
    left, top, right, bottom = (round(value) for value in item.box)
    return shown.crop((left, top, right, bottom)) if crop else shown


def clip_pixels(image: Image.Image, size: int) -> np.ndarray:
    """CLIP's own preparation: the shorter side to ``size``, bicubic; the square in the middle; normalised.

    Long objects lose their ends.

    Returns:
        float32 (3, size, size).
    """
    width, height = image.size
    short = min(width, height)
    width, height = size * width // short, size * height // short
    left, top = round((width - size) / 2), round((height - size) / 2)
    square = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    return ((np.asarray(square, np.float32) / 255 - _MEAN) / _STD).transpose(2, 0, 1)
