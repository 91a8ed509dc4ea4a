"""Golden numbers of the official BAGEL, from the folder ``STROKES_GOLDEN`` or ``tests/golden``."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from strokes.agents.bagel import Bagel, BagelConfig, ImageTransform, Tokenizer, load

GOLDEN = Path(os.environ.get("STROKES_GOLDEN") or Path(__file__).parents[2] / "golden")
TOLERANCE = 1e-4
"""Absolute, of every float (the project's bar; the reference itself is float32)."""


class Case:
    """One golden case: its parameters and, by key, its tensors."""

    def __init__(self, name: str, entry: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.name, self.params, self.specs = name, entry["params"], entry["tensors"]
        self._tensors = tensors

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[f"{self.name}.{key}"]

    def __contains__(self, key: str) -> bool:
        return f"{self.name}.{key}" in self._tensors


@dataclass(frozen=True)
class Golden:
    """A golden set with its checkpoint."""

    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.folder / "manifest.json").read_text())

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.folder / "golden.safetensors")

    @property
    def checkpoint(self) -> Path:
        return self.folder / self.manifest["checkpoint"]

    @cached_property
    def model(self) -> Bagel:
        """The checkpoint in float32, in evaluation mode."""
        return load(self.checkpoint, dtype=torch.float32)

    @property
    def config(self) -> BagelConfig:
        return self.model.config

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.checkpoint)

    @property
    def vae_transform(self) -> ImageTransform:
        return ImageTransform(*self.manifest["vae_transform_args"])

    @property
    def vit_transform(self) -> ImageTransform:
        return ImageTransform(*self.manifest["vit_transform_args"])

    def case(self, name: str) -> Case:
        return Case(name, self.manifest["cases"][name], self.tensors)


@pytest.fixture(scope="session")
def golden() -> Golden:
    """The golden set: manifest, tensors, checkpoint directory, loaded model."""
    torch.set_num_threads(1)  # tiny matrices; threads only contend
    return Golden(GOLDEN / "bagel")


@pytest.fixture(scope="session")
def golden_7b() -> dict[str, dict[str, list[int]]]:
    """Keys and shapes of the released checkpoint, by file."""
    return json.loads((GOLDEN / "bagel_7b" / "state_dict_shapes.json").read_text())


def assert_close(got: Tensor, want: Tensor, tolerance: float = TOLERANCE) -> None:
    """Same shape, and nowhere further apart than ``tolerance``."""
    assert got.shape == want.shape, f"expected shape {tuple(want.shape)}, got {tuple(got.shape)}"
    worst = (got.detach().double() - want.double()).abs().max().item()
    assert worst <= tolerance, f"expected at most {tolerance}, got a difference of {worst}"


@pytest.fixture(scope="session")
def close() -> Any:
    """``assert_close(got, want, tolerance=1e-4)``."""
    return assert_close
