"""GenevalFolder: images in the benchmark's own layout.

``00000/metadata.jsonl`` holds the entry of the first prompt, ``00000/samples/0000.png`` … its drawings: what the
benchmark's ``evaluate_images.py`` reads. Folders of others are read as that script reads them.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..envs.files import write_whole
from .geneval import Detector, Rule
from .geneval_prompts import parse_entry
from .geneval_results import ImageResult, append_results, judge_images, resume_results

METADATA = "metadata.jsonl"
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises where a file is no image, a broken one, or one that is too large to be meant."""
_SAMPLE = re.compile(r"\d+\.png")  # matched at the beginning alone, as the benchmark does


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image of a folder."""

    filename: str
    """Relative to the folder, such as "00000/samples/0000.png"."""
    path: Path
    metadata: Mapping[str, Any]

    def image(self) -> np.ndarray:
        """Its pixels, uint8 (height, width, 3), turned upright where the file says how.

        Raises:
            ValueError: The file is no image.
        """
        try:
            with Image.open(self.path) as image:
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except _UNREADABLE as error:
            raise ValueError(f"Expected an image in {str(self.path)!r}, got {error}; draw it again.") from error


class GenevalFolder:
    """A folder of images, one sub-folder per prompt.

    Example:
        >>> folder = GenevalFolder("outputs/geneval")
        >>> folder.prepare(entries := geneval_prompts())
        >>> for index, number in folder.missing(len(entries), 4):
        ...     folder.add(index, number, draw(entries[index]["prompt"], seed=number))
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def prepare(self, entries: Sequence[Mapping[str, Any]] | Mapping[int, Mapping[str, Any]]) -> None:
        """Write the metadata of each prompt.

        Args:
            entries: All prompts in their order, or some of them by number.

        Raises:
            ValueError: The folder holds other prompts.
        """
        for index, entry in entries.items() if isinstance(entries, Mapping) else enumerate(entries):
            path = self._prompt(index) / METADATA
            text = json.dumps(entry) + "\n"
            if path.exists() and path.read_bytes() != text.encode():
                raise ValueError(f"Expected {str(path)!r} to hold prompt {entry['prompt']!r}; take another folder.")
            if not path.exists():
                write_whole(path, text)
            (self._prompt(index) / "samples").mkdir(exist_ok=True)

    def missing(self, num_prompts: int, num_samples: int) -> list[tuple[int, int]]:
        """Prompt and number of the drawings that are not there yet."""
        numbers = ((index, number) for index in range(num_prompts) for number in range(num_samples))
        return [(index, number) for index, number in numbers if not self._sample(index, number).exists()]

    def add(self, index: int, number: int, image: np.ndarray) -> None:
        """Save a drawing; its file is there whole or not at all.

        Args:
            index: Of its prompt.
            number: Of the drawing, from 0.
            image: uint8 (height, width, 3).
        """
        written = BytesIO()
        Image.fromarray(image).save(written, "PNG")
        # Not beside the samples: the benchmark would read "0000.png.partial" as one of them.
        partial = self._prompt(index) / f"{number:04}.partial"
        partial.write_bytes(written.getvalue())
        os.replace(partial, self._sample(index, number))

    @staticmethod
    def filename(index: int, number: int) -> str:
        """Of a drawing, relative to the folder."""
        return f"{index:05}/samples/{number:04}.png"

    def samples(self) -> Iterator[Sample]:
        """All images of the folder, this or anybody's, in order of their names.

        Raises:
            ValueError: There is none, or a prompt's metadata is missing or wrong.
        """
        folders = [path for path in _sorted(self.path) if path.is_dir() and path.name.isdigit()]
        if not any((path / "samples").is_dir() for path in folders):
            raise ValueError(f"Expected folders such as '00000/samples' in {str(self.path)!r}, got none.")
        for folder in folders:
            metadata = None
            for path in _sorted(folder / "samples"):
                if path.is_file() and _SAMPLE.match(path.name):
                    metadata = metadata or _metadata(folder / METADATA)
                    yield Sample(filename=f"{folder.name}/samples/{path.name}", path=path, metadata=metadata)

    def _prompt(self, index: int) -> Path:
        return self.path / f"{index:05}"

    def _sample(self, index: int, number: int) -> Path:
        return self.path / self.filename(index, number)


def judge_folder(
    folder: str | Path,
    detector: Detector,
    out: str | Path,
    *,
    rule: Rule | None = None,
    batch: int = 16,
    report: Callable[[int], None] = lambda _: None,
) -> list[ImageResult]:
    """The results of all images of a folder, in order of their names; judged images are not judged again.

    Args:
        folder: In the benchmark's layout, this package's or anybody's.
        detector: What looks at the images.
        out: The results file; what it holds stands, so detector and rule must be those it was begun with.
        rule: What counts as seen; the detector's own by default.
        batch: Images per call of the detector; 16 images of 1024² are 50 MB.
        report: Called with the number of images judged, after each batch and for those of ``out``.
    """
    samples = list(GenevalFolder(folder).samples())
    known = {result.filename: result for result in resume_results(out)}
    todo = [sample for sample in samples if sample.filename not in known]
    report(len(samples) - len(todo))
    for group in (todo[k : k + batch] for k in range(0, len(todo), batch)):
        items = [(sample.filename, sample.metadata, sample.image()) for sample in group]
        results = judge_images(detector, items, rule)
        append_results(out, results)
        known |= {result.filename: result for result in results}
        report(len(results))
    return [known[sample.filename] for sample in samples]


def _sorted(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name)) if folder.is_dir() else []


def _metadata(path: Path) -> Mapping[str, Any]:
    try:
        return parse_entry(path.read_bytes(), str(path))
    except OSError as error:
        raise ValueError(f"Expected the prompt's metadata in {str(path)!r}, got {error.strerror}.") from error
