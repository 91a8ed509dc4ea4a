"""GenEval: objects are detected, and an image is right if they are those that the prompt asks for.

The benchmark of D. Ghosh, H. Hajishirzi, L. Schmidt (2023, arXiv 2310.11513; github.com/djghosh13/geneval, MIT). What
is detected is cut down to what counts (``keep``), a few of these objects are asked for their colour
(``colors_needed``), and ``judge`` says how well they meet the prompt, by three measures:

* ``correct``: the benchmark's rule. It forgives whatever is on the image besides: sixteen cups are "a cup".
* ``strict``: exactly the objects asked for, of every class that the prompt names; all colours and relations right.
  Other classes may be there, as they are on any photo.
* ``soft``: the mean of the atomic checks, in [0, 1], 1 if and only if strict. Of each include clause: the count,
  1 - |found - asked| / asked and never below 0; the colour, the share of right ones; the relation, the share of pairs
  that hold. Of each exclude clause of a class that is not asked for: its absence.

Strict and soft of the mini-world's own verdicts (``envs.scenes.verdicts``) differ: there nothing may be that was not
asked for, because there everything can be seen and named.

Clauses of one class (a red cup, a blue cup) ask together for as many objects as they name, where strict and soft are
concerned; the benchmark's rule lets one object meet them all.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from PIL import ImageColor

from ..envs.scenes.clauses import broken, fault
from ..envs.scenes.places import relative_position

ORIGINAL = "original"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What counts as seen. Names and defaults are those of the benchmark's command line."""

    threshold: float = 0.3
    """A detection counts if its score is above it."""
    counting_threshold: float = 0.9
    """The same for prompts tagged "counting"; it makes up for double detections of COCO detectors."""
    max_objects: int = 16
    """The most confident ones of each class count."""
    max_overlap: float = 1.0
    """An object counts if its overlap with every more confident one of its class is below it; 1: whatever it is."""
    position_threshold: float = 0.1
    """Dead zone of relations, as a share of both objects' extents."""
    bgcolor: str = "#999"
    """What the surroundings of an object are painted with before its colour is named; "original": they are left."""
    crop: bool = True
    """Whether the colour is named on the object's box instead of the whole image."""

    def __post_init__(self) -> None:
        for name in ("threshold", "counting_threshold", "max_overlap", "position_threshold"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
                raise ValueError(f"Expected {name} to be a number of at least 0, got {value!r}.")
        if not isinstance(self.max_objects, int) or isinstance(self.max_objects, bool) or self.max_objects < 1:
            raise ValueError(f"Expected max_objects to be at least 1, got {self.max_objects!r}.")
        if not isinstance(self.crop, bool):
            raise ValueError(f"Expected crop to be true or false, got {self.crop!r}.")
        if self.bgcolor != ORIGINAL:
            try:
                ImageColor.getrgb(str(self.bgcolor))
            except ValueError as error:
                raise ValueError(f"Expected bgcolor as #rgb, a name or 'original', got {self.bgcolor!r}.") from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """One object seen on an image. Its numbers are float32 values, as detectors give them."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels."""
    score: float
    """Confidence in [0, 1]."""
    color: str | None = None
    """``None``: nobody asked."""
    mask: np.ndarray | None = None
    """bool (height, width) of the image, where the detector makes masks."""


Objects: TypeAlias = Mapping[str, Sequence[Found]]
"""Objects by class, most confident first; classes without any are left out."""


class Detector(Protocol):
    """Something that sees what is on images."""

    @property
    def classes(self) -> Sequence[str]:
        """What it can see."""
        ...

    @property
    def rule(self) -> Rule:
        """What counts as seen where nothing else is said."""
        ...

    def look(
        self, images: Sequence[np.ndarray], metadata: Sequence[Mapping[str, Any]], rule: Rule | None = None
    ) -> list[Objects]:
        """The objects of each image that count, of all classes, coloured where the metadata makes it necessary.

        Args:
            images: uint8 (height, width, 3) each.
            metadata: What each image was to show: the tag decides the threshold, the clauses whose colour is needed.
            rule: What counts; the detector's own by default.

        Raises:
            OSError: The detector is out of reach.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How well an image meets its prompt."""

    correct: bool
    """The benchmark's rule."""
    reason: str
    """The clauses that are not met, a line each, in the benchmark's words."""
    strict: bool
    soft: float


def keep(
    detected: Mapping[str, Sequence[Found]], metadata: Mapping[str, Any], rule: Rule, classes: Sequence[str]
) -> dict[str, list[Found]]:
    """The detected objects that count, best first.

    Args:
        detected: Everything detected, in any order. Of equal scores the later one comes first.
        metadata: Its tag decides the threshold.
        rule: What counts.
        classes: The order of the classes.
    """
    threshold = rule.counting_threshold if metadata["tag"] == "counting" else rule.threshold
    result = {}
    for name in classes:
        found = detected.get(name, ())
        scores = np.array([item.score for item in found], np.float32)
        order = [k for k in np.argsort(scores, kind="stable")[::-1] if scores[k] > threshold][: rule.max_objects]
        kept = list[Found]()
        for item in (found[k] for k in order):
            if rule.max_overlap == 1 or all(overlap(other.box, item.box) < rule.max_overlap for other in kept):
                kept.append(item)
        if kept:
            result[name] = kept
    return result


def overlap(box_a: Sequence[float], box_b: Sequence[float]) -> float:
    """Intersection over union as the benchmark computes it: in float32, a box from 0 to 9 being 10 pixels wide."""
    a, b = np.array(box_a[:4], np.float32), np.array(box_b[:4], np.float32)
    shared = _area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))
    union = _area(a) + _area(b) - shared
    return float(shared / union) if union else 0.0


def _area(box: np.ndarray) -> np.float32:
    width, height = np.maximum(box[2:] - box[:2] + 1, 0)
    return width * height


def colors_needed(objects: Objects, metadata: Mapping[str, Any]) -> dict[str, int]:
    """How many objects of each class, best first, have to be asked for their colour before ``judge`` is called.

    None of a class of which too few were found for any clause with a colour.
    """
    wanted, needed = _wanted(metadata), dict[str, int]()
    for clause in metadata.get("include", ()):
        found = len(objects.get(clause["class"], ()))
        if "color" in clause and found >= clause["count"]:
            needed[clause["class"]] = min(found, wanted[clause["class"]])
    return needed


def judge(objects: Objects, metadata: Mapping[str, Any], rule: Rule) -> Judgement:
    """How well what was seen meets the prompt.

    Args:
        objects: The objects that count, with the colours that ``colors_needed`` names.
        metadata: What the prompt asks for.
        rule: Its position threshold is what is read of it.
    """
    reasons = broken(metadata, objects, _colors, rule.position_threshold)
    atoms = list(_atoms(objects, metadata, rule.position_threshold))
    soft = sum(atoms) / len(atoms) if atoms else 1.0
    strict = all(atom == 1 for atom in atoms)
    return Judgement(correct=not reasons, reason="\n".join(reasons), strict=strict, soft=soft)


def _wanted(metadata: Mapping[str, Any]) -> Counter[str]:
    """Objects of each class, all clauses taken together."""
    wanted = Counter[str]()
    for clause in metadata.get("include", ()):
        wanted[clause["class"]] += clause["count"]
    return wanted


def _colors(_: str, found: Sequence[Found]) -> list[str]:
    assert all(item.color is not None for item in found), "the detector was to name these colours"
    return [str(item.color) for item in found]


def _atoms(objects: Objects, metadata: Mapping[str, Any], dead_zone: float) -> Iterator[float]:
    """The atomic checks of ``soft``."""
    wanted, groups = _wanted(metadata), list[Sequence[Found]]()
    for clause in metadata.get("include", ()):
        found, total = objects.get(clause["class"], ()), wanted[clause["class"]]
        yield _closeness(len(found), total)
        group = found[: clause["count"]]
        if "color" in clause:
            group = [item for item in found[:total] if item.color == clause["color"]]
            yield _closeness(len(group), clause["count"])
        groups.append(group)
        if "position" in clause:
            rel, target = clause["position"]
            pairs = list(product(group, groups[target]))
            held = sum(rel in relative_position(a.box, b.box, dead_zone=dead_zone) for a, b in pairs)
            yield held / len(pairs) if pairs else float(0 in (clause["count"], metadata["include"][target]["count"]))
    for clause in metadata.get("exclude", ()):
        if clause["class"] not in wanted:
            yield float(len(objects.get(clause["class"], ())) < clause["count"])


def _closeness(found: int, asked: int) -> float:
    return max(0.0, _share(found, asked))


def _share(found: int, asked: int) -> float:
    """How near a number is to what was asked for; without a lower bound, but where nothing was asked for."""
    return 1 - abs(found - asked) / asked if asked else float(found == 0)


class FlowGrpoScore(NamedTuple):
    """What Flow-GRPO's server says of an image."""

    score: float
    strict: bool
    reason: str
    """The clauses that are not met, a line each, in its words."""


def flow_grpo_score(objects: Objects, metadata: Mapping[str, Any], rule: Rule) -> FlowGrpoScore:
    """The reward that Flow-GRPO trained on (github.com/yifan123/reward-server) and its strict verdict, for comparison.

    Not for training. Its count term has no lower bound (sixteen cups for "a cup" are worth -14), and a relation earns
    its 1 whether it holds or not, a wrong one a 0 besides: a wrong side is worth 0.75. ``Judgement.soft`` has neither.
    """
    terms, groups, reasons = list[float](), list[Sequence[Found] | None](), list[str]()
    for clause in metadata.get("include", ()):
        name, count, found = clause["class"], clause["count"], objects.get(clause["class"], ())
        terms.append(_share(len(found), count))
        if len(found) == count:
            reason = fault(clause, found, groups, _colors, rule.position_threshold)
            terms += _flow_grpo_terms(clause, found, groups, reason)
        else:
            reason = f"expected {name}=={count}, found {len(found)}"
            terms += [0.0] if "color" in clause or "position" in clause else []
        groups.append(None if reason else found)
        reasons += [reason] if reason else []
    score = sum(terms) / len(terms) if terms else 0.0
    return FlowGrpoScore(score=score, strict=not reasons, reason="\n".join(reasons))


def _flow_grpo_terms(
    clause: Mapping[str, Any], found: Sequence[Found], groups: Sequence[Sequence[Found] | None], reason: str
) -> list[float]:
    """What the colour and the relation of a clause add, as many objects as asked for being there."""
    terms = list[float]()
    if "color" in clause:
        terms.append(_share(_colors(clause["class"], found).count(clause["color"]), clause["count"]))
    if "position" in clause and terms in ([], [1.0]):
        terms += [0.0] if groups[clause["position"][1]] is None else [0.0, 1.0] if reason else [1.0]
    return terms
