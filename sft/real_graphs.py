"""Scene graphs of real pictures: everyday objects, attributes and relations, and how they are put into words.

What to draw is sampled as in Generate Any Scene (github.com/RAIVNLab/GenerateAnyScene): a structure of objects,
attributes and relations is drawn first, then filled in from lists. The lists are COCO's objects with GenEval's colours
and relations, or the metadata files of that project (``Vocabulary.read``). A drawing grows along nested sub-graphs,
as in the mini-world: whatever a relation refers to comes first, and no state contradicts the whole.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.scenes.clauses import COLOR_NAMES
from ..envs.scenes.graph import INVERSE, RELATIONS
from ..envs.scenes.render import SHAPES
from ..envs.scenes.words import NUMBERS, listed
from ..rewards.geneval_prompts import CLASSES, geneval_prompts

PERSON = "person"
"""Has no colour, as in GenEval."""
PLURALS = {"person": "people", "sheep": "sheep", "knife": "knives", "computer mouse": "computer mice"}
PAIRS = ("skis", "scissors")
"""Names that are plural already."""
NUM_THINGS = {2: 0.1, 3: 0.25, 4: 0.3, 5: 0.35}
"""How often a prompt has so many kinds of things. Cut at random into 2 to 5 states, and with detours in a quarter of
the steps, they give 3.51 pictures on average, as in the paper: measured over 3,000 outlines, before any is rejected."""
ATTRIBUTE_RATE, RELATION_RATE, GROUP_RATE = 0.6, 0.5, 0.25
"""Shares of things with an attribute, of later ones with a relation, and of prompts with a group of 2 to 4. Ours: three
prompts in four ask for two attributes or more, as many for a relation, one in four for a group, since of GenEval's
tasks attribution and position are hardest; measured with the figure above."""
COUNTABLE = frozenset((*CLASSES, *SHAPES))
"""What comes in groups: names whose plurals are known. Of those of metadata files they are not ("leaf", "jeans")."""
DRAWS = 100
"""Graphs drawn for each one that should do, before there is said to be none. Ours: chance alone does not get there."""
PHOTO = "a photo of "
"""How prompts begin, GenEval's included."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A group of equal objects."""

    id: int
    name: str
    attribute: str | None = None
    """A word before the name: a colour, a material."""
    count: int = 1

    def words(self, is_known: bool = False) -> str:
        """ "a red apple", "the red apple", "two red apples", "a pair of skis"."""
        name = f"pair of {self.name}" if self.name in PAIRS else self.name
        name = _plural(name) if self.count > 1 else name
        words = name if self.attribute is None else f"{self.attribute} {name}"
        if is_known:
            return f"the {words}"
        if self.count > 1:
            return f"{NUMBERS[self.count - 1]} {words}"
        return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"


@dataclass(frozen=True, slots=True)
class Relation:
    """``src`` is placed relative to ``dst``: "src rel dst"."""

    src: int
    rel: str
    dst: int


@dataclass(frozen=True, slots=True)
class RealGraph:
    """What a prompt asks for.

    Raises:
        ValueError: Two things of one name, which words could not tell apart; a relation without its ends or against
            the order of things; a thing placed relative to two others.
    """

    things: tuple[Thing, ...]
    """Whatever a relation refers to comes before what is placed relative to it."""
    relations: tuple[Relation, ...] = ()

    def __post_init__(self) -> None:
        names, order = [thing.name for thing in self.things], [thing.id for thing in self.things]
        if len(set(names)) != len(names) or len(set(order)) != len(order):
            raise ValueError(f"Expected things of different names and ids, got {names!r} and {order!r}.")
        for relation in self.relations:
            if not {relation.src, relation.dst} <= set(order) or order.index(relation.dst) >= order.index(relation.src):
                raise ValueError(f"Expected a relation to a thing that comes earlier, got {relation!r}.")
        sources = [relation.src for relation in self.relations]
        if len(set(sources)) != len(sources):
            raise ValueError("Expected each thing to be placed relative to at most one other.")

    def induced(self, ids: Collection[int]) -> "RealGraph":
        """The closed sub-graph on ``ids``: a relation only if both ends are in."""
        return RealGraph(
            tuple(thing for thing in self.things if thing.id in ids),
            tuple(each for each in self.relations if each.src in ids and each.dst in ids),
        )

    def subgraphs(self, rng: np.random.Generator, num: int) -> list["RealGraph"]:
        """``num`` nested closed sub-graphs that grow to this graph along a random linear extension of its relations.

        Args:
            rng: Breaks the ties of the order and chooses where it is cut.
            num: Number of sub-graphs, in [1, number of things].
        """
        if not 1 <= num <= len(self.things):
            raise ValueError(f"Expected num in [1, {len(self.things)}], got {num!r}.")
        anchors, order, left = {e.src: e.dst for e in self.relations}, list[int](), [t.id for t in self.things]
        while left:
            ready = [id for id in left if anchors.get(id) is None or anchors[id] in order]
            order.append(ready[int(rng.integers(len(ready)))])
            left.remove(order[-1])
        cuts = sorted(int(k) + 1 for k in rng.choice(len(order) - 1, num - 1, replace=False)) if num > 1 else []
        return [self.induced(order[:cut]) for cut in (*cuts, len(order))]

    def describe(self, known: Collection[int] = ()) -> str:
        """In words: things in order, relations where their first end is named; what is ``known`` is left out."""
        placed, named, items = {each.src: each for each in self.relations}, set(known), list[str]()
        ends = {thing.id: thing for thing in self.things}
        for thing in self.things:
            relation = placed.get(thing.id)
            if thing.id in known or (thing.id in named and relation is None):
                continue
            words = thing.words(thing.id in named)
            named.add(thing.id)
            if relation is not None:
                words += f" {relation.rel} {ends[relation.dst].words(relation.dst in named)}"
                named.add(relation.dst)
            items.append(words)
        return listed(items, comma=bool(self.relations)) or "nothing"

    def canonical_hash(self) -> str:
        """SHA-256 (64 hex digits) of what is asked for: the order of things and the side a relation is seen from do
        not count."""
        ranked = sorted((t.name, t.attribute or "", t.count) for t in self.things)
        names = {thing.id: thing.name for thing in self.things}
        edges = sorted(_oriented(names[each.src], each.rel, names[each.dst]) for each in self.relations)
        return hashlib.sha256(json.dumps([ranked, edges]).encode()).hexdigest()

    @property
    def is_benchmark(self) -> bool:
        """Whether one of GenEval's 553 prompts asks for it; of WISE's prompts none is of this form."""
        return self.canonical_hash() in _benchmark()

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return {
            "things": [[t.id, t.name, t.attribute, t.count] for t in self.things],
            "relations": [[each.src, each.rel, each.dst] for each in self.relations],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What graphs are filled in from."""

    objects: tuple[str, ...] = CLASSES
    attributes: tuple[str, ...] = COLOR_NAMES
    relations: tuple[str, ...] = RELATIONS

    def __post_init__(self) -> None:
        for field, least in (("objects", 2), ("attributes", 1), ("relations", 1)):
            names = getattr(self, field)
            if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
                raise ValueError(f"Expected {field} to be a tuple of names, got {names!r}.")
            if len(set(names)) < max(least, len(names)):
                raise ValueError(f"Expected {field} to be at least {least} names, each once, got {names!r}.")

    @classmethod
    def read(
        cls,
        objects: str | Path | None = None,
        attributes: str | Path | None = None,
        relations: str | Path | None = None,
        kinds: Sequence[str] = ("color", "spatial"),
    ) -> "Vocabulary":
        """From metadata files in the form of Generate Any Scene; a list without a file stays as it is.

        Args:
            objects: JSON list of names, with underscores and senses in brackets ("cup (hole)"), which are left out.
            attributes: JSON object of lists by kind ("color", "material" …).
            relations: JSON object of lists by kind ("spatial", "interactional" …).
            kinds: Which lists of the last two are taken. Nothing sees to it that object, attribute and relation agree:
                colours and places are what agrees with most objects.

        Raises:
            ValueError: There is no such file, it is of another form, or nothing is left of it.
        """
        given = {"objects": objects, "attributes": attributes, "relations": relations}
        return cls(**{name: _read(path, kinds) for name, path in given.items() if path is not None})

    def sample(
        self, rng: np.random.Generator, is_wanted: Callable[[str], bool] = lambda _: True, share: float = 1.0
    ) -> RealGraph:
        """A random graph that no benchmark asks for.

        Args:
            rng: Decides all of it.
            is_wanted: Whether a graph of this ``canonical_hash`` will do.
            share: Of the graphs that do; more are looked at where few of them do.

        Raises:
            ValueError: None turned up: the vocabulary is too small.
        """
        for _ in range(int(DRAWS / share)):
            graph = self._sample(rng)
            key = graph.canonical_hash()
            if key not in _benchmark() and is_wanted(key):
                return graph
        raise ValueError(
            f"Expected a vocabulary with more graphs than are drawn, got one of {len(self.objects)} objects, "
            f"{len(self.attributes)} attributes and {len(self.relations)} relations; name more, or draw fewer."
        )

    def _sample(self, rng: np.random.Generator) -> RealGraph:
        num = min(int(rng.choice(list(NUM_THINGS), p=list(NUM_THINGS.values()))), len(self.objects))
        names = [self.objects[int(k)] for k in rng.choice(len(self.objects), num, replace=False)]
        things = [Thing(k, name, self._attribute(name, rng)) for k, name in enumerate(names)]
        group = int(rng.integers(num)) if rng.random() < GROUP_RATE else None
        if group is not None and names[group] in COUNTABLE:
            things[group] = replace(things[group], count=int(rng.integers(2, 5)))
        singles = [thing.id for thing in things if thing.count == 1]
        relations = [
            Relation(id, self.relations[int(rng.integers(len(self.relations)))], singles[int(rng.integers(k))])
            for k, id in enumerate(singles)
            if k and rng.random() < RELATION_RATE
        ]
        return RealGraph(tuple(things), tuple(relations))

    def _attribute(self, name: str, rng: np.random.Generator) -> str | None:
        if name == PERSON or rng.random() >= ATTRIBUTE_RATE:
            return None
        return self.attributes[int(rng.integers(len(self.attributes)))]


def _plural(name: str) -> str:
    if name.startswith("pair of "):
        return "pairs" + name.removeprefix("pair")
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    return PLURALS.get(name, name + "s")


def _oriented(src: str, rel: str, dst: str) -> tuple[str, str, str]:
    """The same relation said with "left of" or "above", where it is one of the four."""
    return (dst, INVERSE[rel], src) if rel in ("right of", "below") else (src, rel, dst)


@functools.cache
def _benchmark() -> frozenset[str]:
    return frozenset(_asked(entry).canonical_hash() for entry in geneval_prompts())


def _asked(entry: Mapping[str, Any]) -> RealGraph:
    """The graph of a GenEval prompt."""
    clauses = list(enumerate(entry["include"]))
    things = tuple(Thing(k, c["class"], c.get("color"), c["count"]) for k, c in clauses)
    return RealGraph(things, tuple(Relation(k, *c["position"]) for k, c in clauses if "position" in c))


def _read(path: str | Path, kinds: Sequence[str]) -> tuple[str, ...]:
    """The names of a metadata file, cleaned, each once."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"Expected a JSON file of metadata, got {str(path)!r} ({error}).") from error
    lists = [found.get(kind, []) for kind in kinds] if isinstance(found, dict) else [found]
    names = [name for each in lists if isinstance(each, list) for name in each]
    if not all(isinstance(each, list) for each in lists) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"Expected {str(path)!r} to be a list of names, or lists by kind, got {str(found)[:80]!r}.")
    cleaned = dict.fromkeys(" ".join(re.sub(r"\(.*?\)|\[.*?\]|_|[<>]", " ", name).lower().split()) for name in names)
    cleaned.pop("", None)
    if not cleaned:
        raise ValueError(f"Expected names in {str(path)!r} of the kinds {', '.join(kinds)}, got none.")
    return tuple(cleaned)
