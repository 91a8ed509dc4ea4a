"""The examples of a verifier as training reads them: rows of a parquet file, and batches of them as packs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from ..agents.bagel.items import VaeImage
from ..agents.bagel.sequence import Pack, pack
from ..agents.understanding import Understanding
from ..envs.protocols import VerifierQuestion
from ..rewards.parm import ASKED

REMEMBERED = 50_000
"""Latents that are kept: 115 MB of canvases of 48 pixels, up to 50 GB at 1024, where a run shows far fewer."""
COLUMNS = ("image", "question", "prompt", "label", "painter")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One question about one image, and its answer."""

    image: np.ndarray
    """uint8 (size, size, 3)."""
    question: VerifierQuestion
    prompt: str
    label: bool
    painter: str
    """Who drew it."""


class Examples(Sequence[Example]):
    """The rows of a file; images are kept as they are stored, and decoded when they are asked for."""

    def __init__(self, path: Path) -> None:
        """Args:

        path: A parquet file with ``COLUMNS``, such as ``verifier_data`` writes.

        Raises:
            ValueError: No such file, a damaged one, or one without examples.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self.rows = pq.read_table(path, columns=list(COLUMNS), memory_map=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(
                f"Expected examples in {str(path)!r}, as this command writes them, got {error}."
            ) from error
        if not self.rows.num_rows or set(self.rows.column_names) != set(COLUMNS):
            raise ValueError(
                f"Expected rows with {', '.join(COLUMNS)} in {str(path)!r}, got {self.rows.num_rows} with "
                f"{', '.join(self.rows.column_names)}; draw more, in another folder."
            )

    def __len__(self) -> int:
        return self.rows.num_rows

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        row = self.rows.slice(index, 1).to_pylist()[0]
        with Image.open(BytesIO(row["image"]["bytes"])) as image:
            pixels = np.asarray(image.convert("RGB"))
        return Example(image=pixels, **{name: row[name] for name in COLUMNS if name != "image"})


def num_rows(path: Path) -> int:
    """How many rows a file has."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


@dataclass(frozen=True, slots=True)
class Batch:
    """Makes a pack of examples: each is what the model is asked, and the right word as the next turn."""

    asked: Understanding
    latents: dict[bytes, VaeImage] = field(default_factory=dict)
    """Of ``REMEMBERED`` images at most: every epoch shows them again, and the autoencoder does not learn."""

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The batch of these examples."""
        return {"pack": self.pack(examples)}

    def pack(self, examples: Sequence[Example]) -> Pack:
        """Their pack; each has a row of attention of its own, for they are about as long."""
        samples = [
            self.asked.sample(each.image, ASKED[each.question], each.label, each.prompt, latent)
            for each, latent in zip(examples, self._encoded([each.image for each in examples]), strict=True)
        ]
        return pack(samples, self.asked.model.config, self.asked.tokenizer.ids, row_length=1)

    def _encoded(self, images: Sequence[np.ndarray]) -> list[VaeImage]:
        keys = [hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest() for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self.latents}
        encoded = dict(zip(new, self.asked.encode(list(new.values())), strict=True))
        found = [encoded[key] if key in encoded else self.latents[key] for key in keys]
        if len(self.latents) + len(encoded) <= REMEMBERED:
            self.latents.update(encoded)
        return found
