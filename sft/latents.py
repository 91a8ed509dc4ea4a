"""Images of a data set for training: encoded once into memory-mapped files, or as pixels for the forward pass.

A tiny model would spend more time on its autoencoder than on everything else, so all images are encoded ahead, to
posterior means, into files beside the data that all runs and processes share. BAGEL's own training encodes in the
forward pass, and samples the posterior; a model of 7 B parameters hardly notices.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..agents.bagel.config import BagelConfig
from ..agents.bagel.model import Bagel
from ..agents.bagel.transforms import ImageTransform
from .collator import Clean, images_of
from .store import DataSet

_BATCH = 64
"""Images that are encoded together."""


class AheadImages:
    """Images of one canvas size, with latents; see ``Images``."""

    def __init__(self, folder: Path) -> None:
        # "c": writable in memory, for torch warns of what is not; the files stay as they are.
        self.latents = torch.from_numpy(np.load(folder / "latents.npy", mmap_mode="c"))
        self._pixels = torch.from_numpy(np.load(folder / "pixels.npy", mmap_mode="c"))

    def clean(self, row: int) -> Clean:
        """See ``Images``."""
        return {"latent": self.latents[row]}

    def pixels(self, row: int) -> torch.Tensor:
        """See ``Images``."""
        return self._pixels[row].permute(2, 0, 1).float() / 127.5 - 1


class ForwardImages:
    """Images as pixels, resized as BAGEL does; see ``Images``."""

    def __init__(self, dataset: DataSet, config: BagelConfig, rows: Sequence[tuple[int, int]]) -> None:
        """Args:

        dataset: Where they are read when they are needed.
        config: Of the model.
        rows: Of each image its sample and its number in it.
        """
        self.dataset, self.rows = dataset, rows
        self._vae, self._vit = ImageTransform(*config.vae_transform), ImageTransform(*config.vit_transform)
        self._images = lru_cache(maxsize=16)(self._read)

    def clean(self, row: int) -> Clean:
        """See ``Images``."""
        sample, number = self.rows[row]
        return {"pixels": self._vae(Image.fromarray(self._images(sample)[number]))}

    def pixels(self, row: int) -> torch.Tensor:
        """See ``Images``."""
        sample, number = self.rows[row]
        return self._vit(Image.fromarray(self._images(sample)[number]))

    def _read(self, sample: int) -> list[np.ndarray]:
        return images_of(self.dataset[sample].transcript)


def encode_ahead(dataset: DataSet, num: int, data: str, model: Bagel, cache: Path) -> AheadImages:
    """The images of a data set with their latents, encoded by whoever comes first.

    Args:
        dataset: The samples, in the order of their rows.
        num: Images in all.
        data: SHA-256 of the data.
        model: Its autoencoder encodes.
        cache: Folder of what is kept beside the data.
    """
    folder = cache / f"latents-{data[:12]}-{autoencoder_sha256(model)[:12]}"
    with alone(cache, folder.name):
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.partial")  # what a killed process left is begun anew
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _encode(dataset, num, model, partial)
            os.replace(partial, folder)
    return AheadImages(folder)


@torch.no_grad()
def _encode(dataset: DataSet, num: int, model: Bagel, folder: Path) -> None:
    side, config = model.config.vae_transform[0], model.config
    tokens = (side // config.latent_stride) ** 2
    latents = np.lib.format.open_memmap(folder / "latents.npy", "w+", np.float32, (num, tokens, config.latent_dim))
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, (num, side, side, 3))
    row = 0
    for batch in _batches(dataset, ImageTransform(*config.vae_transform)):
        inputs = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1
        pixels[row : row + len(batch)] = batch
        latents[row : row + len(batch)] = model.encode_images(inputs.to(model.device)).float().cpu().numpy()
        row += len(batch)
    assert row == num
    latents.flush()
    pixels.flush()


def _batches(dataset: DataSet, transform: ImageTransform) -> Iterator[np.ndarray]:
    """All images in order, uint8 (N, side, side, 3) a time."""
    waiting: list[np.ndarray] = []
    for sample in dataset:
        images = images_of(sample.transcript)
        waiting += [np.asarray(transform.resize(Image.fromarray(image))) for image in images]
        while len(waiting) >= _BATCH:
            yield np.stack(waiting[:_BATCH])
            del waiting[:_BATCH]
    if waiting:
        yield np.stack(waiting)


def autoencoder_sha256(model: Bagel) -> str:
    """SHA-256 of what decides the latents: the autoencoder's weights and factors, and the canvas."""
    total, config = hashlib.sha256(), model.config
    total.update(f"{config.vae_config} {config.latent_patch_size} {config.vae_transform}".encode())
    for name, weight in sorted(model.vae.state_dict().items()):
        total.update(name.encode())
        total.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


@contextmanager
def alone(cache: Path, name: str) -> Iterator[None]:
    """Other processes wait here meanwhile."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
