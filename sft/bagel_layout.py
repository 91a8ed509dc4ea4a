"""BAGEL's own training data as samples: parquet files of text-to-image pairs and of edits in steps.

The layouts are those of BAGEL's released example data and of its readers (https://github.com/ByteDance-Seed/Bagel,
``data/``): text-to-image has ``image`` and ``captions`` (JSON, name to caption), editing has ``image_list`` and, for
each step from one image to the next, a list of instructions that say the same. A pair becomes prompt and sketch. An
edit becomes a trajectory without plans: its first image is given, its instructions are words from outside, and the
images after them are learnt; all of them, where BAGEL's reader takes spans of three. Of captions and instructions that
say the same, one is drawn by the seed and the row.

``strokes-sft`` reads them once they are written as samples are, file by file, into a folder that becomes one of its
subsets; it resizes as BAGEL does with ``data.resize=true latents=forward``. Pictures of more than ``rows.LOSSLESS``
pixels are compressed anew.

Example:
    >>> from strokes.sft.bagel_layout import read_bagel
    >>> from strokes.sft.store import write_shard
    >>> write_shard("outputs/edits/0.parquet", read_bagel("seedxedit_0.parquet"))  # doctest: +SKIP
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.archive import pixel_hash
from ..envs.stages import Stage
from ..envs.transcript import GIVEN, Entry, Transcript
from .rows import decode_image
from .sample import Sample, Subset
from .store import OnBad, read_rows


def read_bagel(
    path: str | Path, *, seed: int = 0, on_bad: OnBad = "raise", skipped: list[str] | None = None
) -> Iterator[Sample]:
    """Samples of one of BAGEL's parquet files, of whichever of its two layouts.

    Args:
        path: The file; its name, the row and a hash of the content make the samples' ids, so that files of the same
            name can be put together.
        seed: Decides which caption or instruction is taken where there are several.
        on_bad: See ``store.read_shard``.
        skipped: See ``store.read_shard``.

    Raises:
        ValueError: No such file or layout, a row that is wrong.
    """
    import pyarrow as pa

    path = Path(path)
    pair = pa.schema([("image", pa.binary()), ("captions", pa.string())])
    edit = pa.schema([("image_list", pa.list_(pa.binary())), ("instruction_list", pa.list_(pa.list_(pa.string())))])
    is_edit = "image_list" in _columns(path)
    read = partial(_sample, _edit if is_edit else _pair, "bagel-edit" if is_edit else "bagel-t2i", path, seed)
    yield from read_rows(path, read, edit if is_edit else pair, on_bad=on_bad, skipped=skipped)


def _columns(path: Path) -> list[str]:
    """Names of a file's columns; none where it cannot be read, which its reader then says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException):
        return []


def _sample(
    read: Callable[..., Transcript], source: str, path: Path, seed: int, row: Mapping[str, Any], index: int, where: str
) -> Sample:
    transcript = read(row, np.random.default_rng([seed, index]), where)
    words = [transcript.prompt, *(e.content for e in transcript.emissions if isinstance(e.content, str))]
    text = " ".join(" ".join(words).lower().split())
    pixels = [pixel_hash(e.content) for e in transcript.emissions if isinstance(e.content, np.ndarray)]
    content = hashlib.sha256("\n".join([text, *pixels]).encode()).hexdigest()
    transcript.id = f"{path.stem}-{index}-{content[:8]}"
    return Sample(
        subset=Subset.MULTI_TURN,
        transcript=transcript,
        graph_hash=hashlib.sha256(text.encode()).hexdigest(),
        provenance={"source": source, "file": path.name, "row": index},
    )


def _pair(row: Mapping[str, Any], rng: np.random.Generator, where: str) -> Transcript:
    """Caption and image."""
    try:
        captions = json.loads(row["captions"] or "")
    except (ValueError, RecursionError):
        captions = None
    values = list(captions.values()) if isinstance(captions, dict) else []
    if not values or not all(isinstance(text, str) and text.strip() for text in values):
        raise ValueError(f"Expected {where} with JSON of names and captions, got {row['captions']!r:.80}.")
    image = decode_image(row["image"], f"{where}, image")
    prompt = values[int(rng.integers(len(values)))]
    return Transcript(prompt=prompt, size=max(image.shape), emissions=[Entry(stage=Stage.SKETCH, content=image)])


def _edit(row: Mapping[str, Any], rng: np.random.Generator, where: str) -> Transcript:
    """A given image, and for each step an instruction and the image after it."""
    pictures, steps = row["image_list"] or [], row["instruction_list"] or []
    if len(pictures) < 2 or len(steps) != len(pictures) - 1 or not all(steps):
        raise ValueError(
            f"Expected {where} with two images or more and instructions for each step between them, got "
            f"{len(pictures)} images and {len(steps)} steps, {sum(not step for step in steps)} of them without."
        )
    images = [decode_image(data, f"{where}, image {k}") for k, data in enumerate(pictures)]
    transcript = Transcript(prompt="", size=max(images[0].shape))
    transcript.emissions.append(Entry(stage=Stage.SKETCH, content=images[0], source=GIVEN, loss=False))
    for step, image in zip(steps, images[1:], strict=True):
        words = step[int(rng.integers(len(step)))]
        if not isinstance(words, str) or not words.strip():
            raise ValueError(f"Expected {where} with instructions in words, got {words!r}.")
        transcript.interject(words)
        transcript.emissions.append(Entry(stage=Stage.SKETCH, content=image))
    return transcript
