"""Results of GenEval, image by image, in the benchmark's own format.

One JSON object per line: filename, tag, prompt, correct, reason, metadata (JSON in a string) and details (the boxes of
what counted, JSON in a string), written as the benchmark writes it, so that its ``summary_scores.py`` reads ours. Ours
have two columns more, strict and soft, which it ignores.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.files import write_whole
from .geneval import Detector, Objects, Rule, judge

_COLUMNS = {"filename": str, "tag": str, "prompt": str, "correct": bool, "reason": str, "metadata": str, "details": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """One image, judged."""

    filename: str
    """Its path, from the image folder on in ours."""
    tag: str
    prompt: str
    correct: bool
    """The benchmark's rule."""
    reason: str
    """The clauses that are not met, a line each."""
    metadata: str
    """The prompt's metadata, as JSON. Images with equal ones are drawings of one prompt."""
    details: str
    """Boxes and scores of what counted, by class, as JSON."""
    strict: bool | None = None
    """See ``Judgement``; ``None``: judged by the benchmark's own script."""
    soft: float | None = None

    def to_line(self) -> str:
        """The line of a results file."""
        columns = {name: getattr(self, name) for name in self.__slots__}
        known = {name: value for name, value in columns.items() if name in _COLUMNS or value is not None}
        return json.dumps(known, separators=(",", ":")).replace("/", "\\/") + "\n"  # as pandas escapes it


def judge_images(
    detector: Detector,
    items: Sequence[tuple[str, Mapping[str, Any], np.ndarray]],
    rule: Rule | None = None,
) -> list[ImageResult]:
    """One result for each image, in order.

    Args:
        detector: What looks at them, all in one call.
        items: Filename, metadata and image, uint8 (height, width, 3).
        rule: What counts as seen; the detector's own by default.

    Raises:
        ValueError: An image that is none, named.
    """
    for name, _, image in items:
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"Expected {name!r} as a uint8 array (height, width, 3), got {got}.")
    rule = rule or detector.rule
    seen = detector.look([image for _, _, image in items], [meta for _, meta, _ in items], rule)
    return [_result(name, meta, objects, rule) for (name, meta, _), objects in zip(items, seen, strict=True)]


def _result(filename: str, metadata: Mapping[str, Any], objects: Objects, rule: Rule) -> ImageResult:
    judged = judge(objects, metadata, rule)
    return ImageResult(
        filename=filename,
        tag=metadata["tag"],
        prompt=metadata["prompt"],
        correct=judged.correct,
        reason=judged.reason,
        metadata=json.dumps(metadata),
        details=json.dumps({name: [[*item.box, item.score] for item in found] for name, found in objects.items()}),
        strict=judged.strict,
        soft=judged.soft,
    )


def read_results(path: str | Path) -> list[ImageResult]:
    """The results in a file, the benchmark's or ours. A last line that is torn is left out.

    Raises:
        ValueError: A line that is whole but wrong, named by file and number.
    """
    lines = Path(path).read_bytes().split(b"\n")
    last = len(lines)
    results = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or (number == last and not _is_json(line)):
            continue
        results.append(_parsed(line, f"{path}:{number}"))
    return results


def resume_results(path: str | Path) -> list[ImageResult]:
    """The results of a file that is to be gone on with: a torn last line is taken out of it.

    An empty list where there is no file yet.
    """
    path = Path(path)
    if not path.exists():
        return []
    results = read_results(path)
    text = "".join(result.to_line() for result in results)
    if path.read_bytes() != text.encode():
        write_whole(path, text)
    return results


def append_results(path: str | Path, results: Sequence[ImageResult]) -> None:
    """Add results to a file; they are on the disk when this returns."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        file.write("".join(result.to_line() for result in results).encode())
        file.flush()
        os.fsync(file.fileno())


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(line: bytes, where: str) -> ImageResult:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected a result of GenEval at {where}, got no JSON ({error}).") from error
    wrong = [k for k, kind in _COLUMNS.items() if not isinstance(record, dict) or not isinstance(record.get(k), kind)]
    if wrong:
        raise ValueError(f"Expected a result of GenEval at {where}, got one without a right {', '.join(wrong)}.")
    strict, soft = record.get("strict"), record.get("soft")
    if not isinstance(strict, bool | None) or not isinstance(soft, float | int | None):
        raise ValueError(f"Expected strict as a verdict and soft as a number at {where}, got {strict!r} and {soft!r}.")
    return ImageResult(**{name: record[name] for name in _COLUMNS}, strict=strict, soft=soft)
