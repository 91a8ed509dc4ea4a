"""Scores of single images: asking a judge, and the file in which they are kept, in WISE's own format.

An image that gets no score is listed with its reason and asked about again the next time; it never counts as 0.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..envs.files import replacing
from .question import Judge, Question, Request, Status, Verdict
from .wise import WiseItem, WiseProtocol

ATTEMPTS = 3
"""Times that an image is asked about, as in the official scripts: replies without a score and failed requests alike
use one up, and marks of two replies are never put together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WiseScore:
    """One image, judged or not."""

    prompt_id: int
    category: str
    subcategory: str = ""
    marks: Mapping[str, float] | None = None
    """By the names of the protocol; ``None``: no score."""
    wiscore: float | None = None
    """In [0, 1]; ``None``: no score."""
    gated: float | None = None
    """The same with everything else counted only as far as the image is consistent."""
    attempts: int = 0
    """Times that the judge was asked."""
    error: str = ""
    """Why there is no score."""

    def to_record(self) -> dict[str, Any]:
        """The line of an official scores file, which the official scripts read too."""
        assert self.marks is not None, "an image without a score has no line"
        return {"prompt_id": self.prompt_id, "Subcategory": self.subcategory, **self.marks}


def score_of(
    protocol: WiseProtocol, item: WiseItem, marks: Mapping[str, float] | None, *, attempts: int = 0, error: str = ""
) -> WiseScore:
    """The score that some marks make."""
    return WiseScore(
        prompt_id=item.prompt_id,
        category=item.category,
        subcategory=item.subcategory,
        marks=None if marks is None else {name: marks[name] for name in protocol.weights},
        wiscore=None if marks is None else protocol.wiscore(marks),
        gated=None if marks is None else protocol.gated(marks),
        attempts=attempts,
        error=error,
    )


def score_images(
    judge: Judge,
    protocol: WiseProtocol,
    items: Sequence[WiseItem],
    images: Sequence[np.ndarray],
    *,
    question: Question | None = None,
    attempts: int = ATTEMPTS,
) -> list[WiseScore]:
    """One score for each image, in order.

    Args:
        judge: Is asked about all images at once, then again about those without a score.
        protocol: Says what the marks are worth.
        items: What the images were drawn for.
        images: uint8 (height, width, 3) each.
        question: What the judge is told and how it is read; by default ``protocol.question()``.
        attempts: Times that an image is asked about at most; 1 for a judge that repeats by itself what fails.
    """
    if attempts < 1:
        raise ValueError(f"Expected attempts to be at least 1, got {attempts!r}.")
    asked = question or protocol.question()
    requests = [
        Request(question=asked, fields={"prompt": item.prompt, "explanation": item.explanation}, images=(image,))
        for item, image in zip(items, images, strict=True)
    ]
    verdicts: dict[int, Verdict] = {}
    times = [0] * len(requests)
    still = list(range(len(requests)))
    for _ in range(attempts):
        for k, verdict in zip(still, judge.ask([requests[k] for k in still]), strict=True):
            verdicts[k] = verdict
            times[k] += 1
        still = [k for k in still if verdicts[k].data is None and verdicts[k].status != "budget"]
        if not still:
            break
    return [
        score_of(protocol, item, verdicts[k].data, attempts=times[k], error=_reason(verdicts[k]))
        for k, item in enumerate(items)
    ]


def _reason(verdict: Verdict) -> str:
    if verdict.data is not None:
        return ""
    status: Status = "unparsable" if verdict.status == "ok" else verdict.status
    return f"{status}: {verdict.error}" if verdict.error else status


def score_folder(
    judge: Judge,
    protocol: WiseProtocol,
    items: Sequence[WiseItem],
    folder: str | Path,
    scores: str | Path,
    *,
    question: Question | None = None,
    attempts: int = ATTEMPTS,
    batch: int = 64,
) -> list[WiseScore]:
    """One score for each item, its image being ``<folder>/<prompt_id>.png``; goes on where it was stopped.

    Args:
        judge: Asked about images that have no score yet.
        protocol: Says what the marks are worth.
        items: The benchmark, or a part of it.
        folder: Of the images. Where one is missing its score says so.
        scores: JSON lines, one for each image with a score, written as they come.
        question: What the judge is told and how it is read; by default ``protocol.question()``.
        attempts: Times that an image is asked about at most, see ``score_images``.
        batch: Images that are read and asked about at a time; 64 requests are what a judge has under way at once.
    """
    file = ScoresFile(scores, protocol)
    done = {score.prompt_id: score for score in file.read(items)}
    paths = {item.prompt_id: Path(folder) / f"{item.prompt_id}.png" for item in items}
    todo = [item for item in items if item.prompt_id not in done]
    found = [item for item in todo if paths[item.prompt_id].is_file()]
    for item in todo:
        done[item.prompt_id] = score_of(protocol, item, None, error=f"no image {paths[item.prompt_id]}")
    for start in range(0, len(found), batch):
        part = found[start : start + batch]
        images = [read_image(paths[item.prompt_id]) for item in part]
        judged = score_images(judge, protocol, part, images, question=question, attempts=attempts)
        file.add(judged)
        done |= {score.prompt_id: score for score in judged}
    return [done[item.prompt_id] for item in items]


def write_image(folder: str | Path, prompt_id: int, image: np.ndarray) -> None:
    """Keep an image where ``score_folder`` and the official scripts look for it; it is there whole or not at all."""
    with replacing(Path(folder) / f"{prompt_id}.png") as partial:
        Image.fromarray(image).save(partial, "PNG")


def read_image(path: Path) -> np.ndarray:
    """An image file as uint8 (height, width, 3).

    Raises:
        ValueError: It cannot be read as one.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    # Pillow's words for a broken PNG are SyntaxError and ValueError.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"Expected an image in {path}, got {error}; draw it again.") from error


class ScoresFile:
    """A file of scores, one JSON line each, that survives being cut off anywhere.

    Args:
        path: The file; it need not be there yet.
        protocol: Whose marks its lines hold.
    """

    def __init__(self, path: str | Path, protocol: WiseProtocol) -> None:
        self.path, self.protocol = Path(path), protocol

    def read(self, items: Sequence[WiseItem]) -> list[WiseScore]:
        """The scores of some items, whatever else is there; of two lines for one item the first counts.

        A torn last line is cut off the file, a whole one is ended.

        Raises:
            ValueError: Another line is no score of this protocol; nothing is changed then.
        """
        known = {item.prompt_id: item for item in items}
        scores: dict[int, WiseScore] = {}
        *lines, tail = self.path.read_bytes().split(b"\n") if self.path.is_file() else [b""]
        is_torn = tail.startswith(b"{") and not _is_json(tail)
        for number, line in enumerate(lines if is_torn else [*lines, tail], 1):
            if not line.strip():
                continue
            prompt_id, marks = self._parse(line, f"{self.path}:{number}")
            if prompt_id in known:
                scores.setdefault(prompt_id, score_of(self.protocol, known[prompt_id], marks))
        if is_torn:
            os.truncate(self.path, self.path.stat().st_size - len(tail))
        elif tail:
            with self.path.open("ab") as file:
                file.write(b"\n")
        return list(scores.values())

    def add(self, scores: Sequence[WiseScore]) -> None:
        """Write those that have marks; when this returns they are on the disk."""
        lines = [json.dumps(score.to_record(), ensure_ascii=False) for score in scores if score.marks is not None]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())

    def _parse(self, line: bytes, where: str) -> tuple[int, dict[str, float]]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"Expected JSON at {where}, got {error}; remove the line.") from error
        read = record if isinstance(record, dict) else {}
        prompt_id, marks = read.get("prompt_id"), [read.get(name) for name in self.protocol.weights]
        numbers = all(isinstance(mark, (int, float)) and not isinstance(mark, bool) for mark in marks)
        if not numbers or not isinstance(prompt_id, int) or isinstance(prompt_id, bool):
            names = ", ".join(self.protocol.weights)
            raise ValueError(f"Expected prompt_id, {names} ({self.protocol.name}) at {where}, got {record!r:.80}.")
        if not all(self._is_mark(mark) for mark in marks):
            raise ValueError(
                f"Expected marks from 0 to {self.protocol.top} ({self.protocol.name}) at {where}, got {record!r:.80}; "
                f"remove the line, and the image is judged anew."
            )
        return prompt_id, {name: float(read[name]) for name in self.protocol.weights}

    def _is_mark(self, mark: Any) -> bool:
        return mark in (0, self.protocol.top) if self.protocol.is_binary else 0 <= mark <= self.protocol.top


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
