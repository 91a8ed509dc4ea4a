"""Canvases of a policy: uint8 images to context items, and noise to uint8 images, many at a time."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...envs.protocols import Session, Transition, Watcher
from .config import BagelConfig
from .context import Contexts
from .items import VaeImage, VitImage
from .model import Bagel
from .sample import Branches, Sampling, Stochastic, sample_images
from .transforms import ImageTransform, to_pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """An image that was drawn."""

    image: np.ndarray
    """uint8 (size, size, 3); what it was heading for where it was given up on the way."""
    path: tuple[Transition, ...]
    """Its flow path; empty where not asked for."""
    steps: int
    """Sampling steps it took."""
    nfe: int
    """Network evaluations it took, guidance branches counted one by one."""
    decodes: int
    """Latents decoded: the image, and what was looked at on the way."""
    previews: int
    """Of these, what was looked at on the way."""


class Pictures:
    """What a policy does with square canvases."""

    def __init__(self, model: Bagel, sampling: Sampling) -> None:
        """Args:

        model: Encodes, denoises and decodes.
        sampling: Steps and guidance of every image.
        """
        self.model = model
        self.sampling = sampling

    def check(self, size: int) -> None:
        """``ValueError`` unless the model can draw canvases of this size."""
        stride, side = self.model.config.latent_stride, self.model.config.max_latent_size
        if size % stride or not 0 < size <= stride * side:
            raise ValueError(
                f"Expected a canvas size that is a multiple of {stride} up to {stride * side} (the position table of "
                f"this model), got {size}; make the environment with another `size`."
            )

    def encode(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        """Posterior means of uint8 images (size, size, 3), each float32 (tokens, p·p·z) on the CPU."""
        return encode_all(self.model, [to_pixels(image) for image in images])

    def items(self, image: np.ndarray, latent: Tensor) -> list[VaeImage | VitImage]:
        """An image as it enters a context; see ``as_items``."""
        return as_items(self.model.config, image, latent)

    def draw(
        self,
        contexts: Contexts,
        branches: Branches,
        sizes: Sequence[int],
        rngs: Sequence[np.random.Generator],
        seeds: Sequence[Sequence[int]] = (),
        *,
        is_recorded: bool = False,
        watching: "Watching | None" = None,
    ) -> list[Drawn]:
        """Draw one image per canvas, all steps of all canvases together.

        Args:
            contexts: Where the views of ``branches`` lie.
            branches: What is drawn after, and guided away from.
            sizes: Side of each canvas in pixels.
            rngs: Source of the noise of each canvas.
            seeds: (seed, step, prompt, …) of each canvas; decide which steps are stochastic; only needed with
                ``Sampling.noise``.
            is_recorded: Whether to keep the flow paths.
            watching: Looks at the canvases, which are those of its sessions, and may give them up.
        """
        config = self.model.config
        grids = [(size // config.latent_stride, size // config.latent_stride) for size in sizes]
        noise = [
            torch.from_numpy(rng.standard_normal((h * w, config.latent_dim), dtype=np.float32))
            for rng, (h, w) in zip(rngs, grids, strict=True)
        ]
        # Drawn after the initial noise, which stays what it is without.
        stochastic = self._stochastic(rngs, seeds, grids)
        watch = None if watching is None else _Decoded(self, watching, sizes)
        sampled = sample_images(
            contexts, branches, noise, grids, self.sampling, stochastic=stochastic, is_recorded=is_recorded, watch=watch
        )
        given_up, looks = ({}, [0] * len(sizes)) if watch is None else (watch.given_up, watch.looks)
        left = [k for k in range(len(sizes)) if k not in given_up]
        decoded = self.decode([sampled.latents[k] for k in left], [sizes[k] for k in left])
        images = dict(zip(left, decoded, strict=True)) | given_up
        return [
            Drawn(
                image=images[k],
                path=path,
                steps=steps,
                nfe=nfe,
                decodes=looks[k] + (k not in given_up),
                previews=looks[k],
            )
            for k, (path, steps, nfe) in enumerate(zip(sampled.paths, sampled.steps, sampled.nfe, strict=True))
        ]

    def _stochastic(
        self, rngs: Sequence[np.random.Generator], seeds: Sequence[Sequence[int]], grids: Sequence[tuple[int, int]]
    ) -> list[Stochastic]:
        """The stochastic steps of each canvas; none without ``Sampling.noise``."""
        if self.sampling.noise is None:
            return []
        result, window = [], self.sampling.noise.window
        for rng, seed, (h, w) in zip(rngs, seeds, grids, strict=True):
            chosen = window.steps(self.sampling.num_timesteps - 1, seed)
            drawn = rng.standard_normal((len(chosen), h * w, self.model.config.latent_dim), dtype=np.float32)
            result.append(Stochastic(chosen, torch.from_numpy(drawn)))
        return result

    @torch.no_grad()
    def decode(self, latents: Sequence[Tensor], sizes: Sequence[int]) -> list[np.ndarray]:
        """Latents (tokens, p·p·z) of square canvases as uint8 images (size, size, 3)."""
        images: list[np.ndarray] = [np.empty(0)] * len(sizes)
        for places in _by_size(sizes):
            size = sizes[places[0]]
            pixels = self.model.decode_latents(torch.stack([latents[i] for i in places]), (size, size))
            for i, image in zip(places, self.model.to_uint8(pixels).cpu().numpy(), strict=True):
                images[i] = image
        return images


class Watching(NamedTuple):
    """Who looks at the canvases of which sessions."""

    watcher: Watcher
    sessions: Sequence[Session]


class _Decoded:
    """A watcher as the sampler knows it: estimates become images on the way."""

    def __init__(self, pictures: Pictures, watching: Watching, sizes: Sequence[int]) -> None:
        self.pictures, self.watching, self.sizes = pictures, watching, sizes
        self.looks = [0] * len(sizes)
        """Estimates decoded of each canvas."""
        self.given_up: dict[int, np.ndarray] = {}
        """Last images of the canvases that were given up."""

    def wants(self, canvas: int, step: int) -> bool:
        return self.watching.watcher.wants(self.watching.sessions[canvas], step)

    def look(self, estimates: Mapping[int, Tensor]) -> Collection[int]:
        numbers = list(estimates)
        images = self.pictures.decode(list(estimates.values()), [self.sizes[k] for k in numbers])
        watcher, sessions = self.watching
        goes_on = watcher.look([(sessions[k], image) for k, image in zip(numbers, images, strict=True)])
        for k, image, goes in zip(numbers, images, goes_on, strict=True):
            self.looks[k] += 1
            if not goes:
                self.given_up[k] = image
        return [k for k in numbers if k in self.given_up]


def encode_all(model: Bagel, images: Sequence[Tensor]) -> list[Tensor]:
    """Posterior means of images (3, H, W) in [-1, 1], each float32 (tokens, p·p·z) on the CPU; equal sizes together."""
    latents: list[Tensor] = [torch.empty(0)] * len(images)
    for places in _by_size([tuple(image.shape) for image in images]):
        pixels = torch.stack([images[i] for i in places]).to(model.device)
        for i, latent in zip(places, model.encode_images(pixels).float().cpu(), strict=True):
            latents[i] = latent
    return latents


def as_items(config: BagelConfig, image: np.ndarray, latent: Tensor) -> list[VaeImage | VitImage]:
    """An image uint8 (size, size, 3) as it enters a context: its latent, then what the image encoder sees of it."""
    return [VaeImage(latent=latent), as_seen(config, image)]


def as_seen(config: BagelConfig, image: np.ndarray) -> VitImage:
    """An image uint8 (height, width, 3) as the image encoder sees it."""
    size, patch = max(image.shape[:2]), config.vit_config.patch_size
    # A canvas that the encoder cannot take as it is gets BAGEL's own resize, as its inferencer does.
    if any(side % patch for side in image.shape[:2]) or size > patch * config.vit_max_num_patch_per_side:
        transform = ImageTransform(*config.vit_transform)
        image = np.asarray(transform.resize(Image.fromarray(image)))
    return VitImage(pixels=to_pixels(image))


def as_encoded(config: BagelConfig, image: np.ndarray) -> Tensor:
    """An image uint8 (height, width, 3) as the autoencoder takes it, float32 (3, H, W) in [-1, 1]."""
    if not is_encodable(config, *image.shape[:2]):
        image = np.asarray(ImageTransform(*config.vae_transform).resize(Image.fromarray(image)))
    return to_pixels(image)


def is_encodable(config: BagelConfig, height: int, width: int) -> bool:
    """Whether latents of an image of this size have places in a context."""
    stride = config.latent_stride
    return height % stride == width % stride == 0 and max(height, width) <= stride * config.max_latent_size


def _by_size(sizes: Sequence[Hashable]) -> list[list[int]]:
    """Places of equal sizes, together."""
    groups: dict[Hashable, list[int]] = {}
    for i, size in enumerate(sizes):
        groups.setdefault(size, []).append(i)
    return list(groups.values())
