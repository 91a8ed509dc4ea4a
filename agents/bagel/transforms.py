"""Image transforms: BAGEL's aspect-preserving resize to multiples of a stride, and pixels in [-1, 1]."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MAX_PIXELS = 14 * 14 * 9 * 1024
"""Largest area after resizing (official default)."""


@dataclass(frozen=True, slots=True)
class ImageTransform:
    """Resize, scale to [-1, 1]."""

    max_size: int
    """Largest side in pixels."""
    min_size: int
    """Smallest side the shorter side is enlarged to, where that does not contradict ``max_size``."""
    stride: int
    """Both sides become multiples of it."""
    max_pixels: int = MAX_PIXELS
    """Largest area in pixels, divided by the number of images of a sample."""

    def size(self, width: int, height: int, num_images: int = 1) -> tuple[int, int]:
        """(width, height) after resizing; rounds halves to even, and shrinks areas without a square root (official)."""
        scale = max(min(self.max_size / max(width, height), 1.0), self.min_size / min(width, height))
        w, h = self._scaled(width, height, scale)
        if w * h > self.max_pixels / num_images:
            w, h = self._scaled(w, h, self.max_pixels / num_images / (w * h))
        if max(w, h) > self.max_size:
            w, h = self._scaled(w, h, self.max_size / max(w, h))
        return w, h

    def _scaled(self, width: int, height: int, scale: float) -> tuple[int, int]:
        w, h = (round(round(v * scale) / self.stride) * self.stride for v in (width, height))
        return max(self.stride, w), max(self.stride, h)

    def resize(self, image: Image.Image, num_images: int = 1) -> Image.Image:
        """The resized image (bicubic, antialiased); the same object if the size already fits."""
        size = self.size(*image.size, num_images)
        return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)

    def __call__(self, image: Image.Image, num_images: int = 1) -> Tensor:
        """Pixels of the resized image, float32 (3, H, W) in [-1, 1]."""
        return to_pixels(np.asarray(self.resize(to_rgb(image), num_images)))


def to_rgb(image: Image.Image) -> Image.Image:
    """An image without transparency, which is pasted on white."""
    if image.mode == "RGBA" or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.split()[3])
        return white
    return image.convert("RGB")


def to_pixels(image: np.ndarray) -> Tensor:
    """uint8 (…, H, W, 3) to float32 (…, 3, H, W) in [-1, 1], in the official order of operations."""
    if image.dtype != np.uint8 or image.shape[-1] != 3:
        raise ValueError(f"Expected a uint8 image (H, W, 3), got {image.dtype} {image.shape}.")
    x = torch.from_numpy(np.array(image)).movedim(-1, -3).contiguous()
    return (x.float() / 255 - 0.5) / 0.5
