"""GenEval's 553 prompts with what each asks for, made anew from the seed; and prompts of one's own in the same format.

The prompts are those of D. Ghosh, H. Hajishirzi, L. Schmidt, GenEval (2023, arXiv 2310.11513), MIT licence
(github.com/djghosh13/geneval): the same classes, templates and order of random draws, so that seed 43 gives the
published files byte for byte, naive plurals ("skises") and articles ("a green skis") included.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.scenes.clauses import COLOR_NAMES
from ..envs.scenes.graph import RELATIONS, TAGS

CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "computer mouse", "tv remote", "computer keyboard", "cell phone", "microwave", "oven", "toaster",
    "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's 80 classes in COCO's order, three of them under the names that the prompts use."""

_NUMBERS = {2: "two", 3: "three", 4: "four"}


def geneval_prompts(seed: int = 43, num: int = 100) -> list[dict[str, Any]]:
    """The benchmark's metadata, one entry per prompt: tag, include, exclude (counting only) and prompt.

    Args:
        seed: The published benchmark is 43; others make more prompts of the kind, for training or a second opinion.
        num: Prompts drawn per task before equal ones are dropped; 100 in the published benchmark. Single objects are
            always the 80 classes.
    """
    rng = np.random.default_rng(seed)
    drawn = [_entry("single_object", [_wants(name)], _an(name)) for name in _pick(rng, CLASSES, len(CLASSES))]
    for draw in (_two_objects, _counting, _colors, _position, _color_attr):
        drawn += [draw(rng) for _ in range(num)]
    return list({json.dumps(entry): entry for entry in drawn}.values())


def to_jsonl(entries: Sequence[Mapping[str, Any]]) -> str:
    """Metadata as a file, one JSON object per line; of ``geneval_prompts()``, the published one."""
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def read_metadata(path: str | Path) -> list[dict[str, Any]]:
    """The entries of a metadata file, such as BAGEL's with long prompts.

    Raises:
        ValueError: There is no such file, or a line that is no such entry, named by file and number.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"Expected a file of metadata, got {str(path)!r} ({error.strerror}).") from error
    entries = [parse_entry(line, f"{path}:{k}") for k, line in enumerate(lines, 1) if line.strip()]
    if not entries:
        raise ValueError(f"Expected at least one line of metadata in {str(path)!r}, got none.")
    return entries


def parse_entry(text: str | bytes, where: str) -> dict[str, Any]:
    """One entry of metadata from its JSON.

    Args:
        text: A JSON object; bytes as UTF-8.
        where: What errors name, such as "prompts.jsonl:7".

    Raises:
        ValueError: It is no JSON, has an unknown tag, or lacks something.
    """
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected one JSON object at {where}, got {text[:80]!r} ({error}).") from error
    fault = next(_faults(entry), None)
    if fault is not None:
        raise ValueError(f"Expected {fault} at {where}.")
    return entry


def _faults(entry: Any) -> Iterator[str]:
    """What is wrong with an entry, as "x, got y"."""
    if not isinstance(entry, dict):
        yield f"an object with tag, include and prompt, got {entry!r:.80}"
        return
    if entry.get("tag") not in TAGS:
        yield f"a tag among {', '.join(TAGS)}, got {entry.get('tag')!r}"
    if not isinstance(entry.get("prompt"), str) or not entry["prompt"].strip():
        yield f"a prompt, got {entry.get('prompt')!r}"
    if not isinstance(entry.get("include"), list) or not isinstance(entry.get("exclude", []), list):
        yield f"lists of clauses as include and, if any, exclude, got {entry.get('include')!r:.80}"
        return
    for k, clause in enumerate(entry["include"]):
        yield from _clause_faults(clause, k)
    for clause in entry.get("exclude", []):
        yield from _clause_faults(clause, 0)


def _clause_faults(clause: Any, k: int) -> Iterator[str]:
    """What is wrong with the ``k``-th clause."""
    if not isinstance(clause, dict) or not isinstance(clause.get("class"), str):
        yield f"a clause with class and count, got {clause!r:.80}"
        return
    count = clause.get("count")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        yield f"a count of at least 1 of {clause['class']!r}, got {count!r}"
    if "color" in clause and clause["color"] not in COLOR_NAMES:
        yield f"a color among {', '.join(COLOR_NAMES)}, got {clause['color']!r}"
    if "position" in clause:
        place = clause["position"]
        is_pair = isinstance(place, list) and len(place) == 2 and place[0] in RELATIONS
        if not is_pair or not isinstance(place[1], int) or isinstance(place[1], bool) or not 0 <= place[1] < k:
            yield f"a position [{' | '.join(RELATIONS)}, number of an earlier clause], got {place!r}"


def _two_objects(rng: np.random.Generator) -> dict[str, Any]:
    first, second = _pick(rng, CLASSES, 2)
    return _entry("two_object", [_wants(first), _wants(second)], f"{_an(first)} and {_an(second)}")


def _counting(rng: np.random.Generator) -> dict[str, Any]:
    name = CLASSES[rng.choice(len(CLASSES))]
    count = int(rng.integers(2, 4, endpoint=True))
    plural = name + ("es" if name.endswith("s") else "s")
    entry = _entry("counting", [_wants(name, count)], f"{_NUMBERS[count]} {plural}")
    return {"tag": entry["tag"], "include": entry["include"], "exclude": [_wants(name, count + 1)]} | entry


def _colors(rng: np.random.Generator) -> dict[str, Any]:
    name = CLASSES[1 + rng.choice(len(CLASSES) - 1)]  # a person has no colour
    color = COLOR_NAMES[rng.choice(len(COLOR_NAMES))]
    return _entry("colors", [_wants(name, color=color)], f"{_an(color)} {name}")


def _position(rng: np.random.Generator) -> dict[str, Any]:
    name, target = _pick(rng, CLASSES, 2)
    rel = RELATIONS[rng.choice(len(RELATIONS))]
    return _entry("position", [_wants(target), _wants(name, position=[rel, 0])], f"{_an(name)} {rel} {_an(target)}")


def _color_attr(rng: np.random.Generator) -> dict[str, Any]:
    (a, b), (color_a, color_b) = _pick(rng, CLASSES[1:], 2), _pick(rng, COLOR_NAMES, 2)
    clauses = [_wants(a, color=color_a), _wants(b, color=color_b)]
    return _entry("color_attr", clauses, f"{_an(color_a)} {a} and {_an(color_b)} {b}")


def _pick(rng: np.random.Generator, names: Sequence[str], number: int) -> list[str]:
    return [names[k] for k in rng.choice(len(names), size=number, replace=False)]


def _wants(name: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"class": name, "count": count, **more}


def _entry(tag: str, include: list[dict[str, Any]], what: str) -> dict[str, Any]:
    return {"tag": tag, "include": include, "prompt": f"a photo of {what}"}


def _an(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
