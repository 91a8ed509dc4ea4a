"""Knowledge: prompts of the mini-world that name nothing and have an exact answer, in the form of WISE.

One-hop prompts need one fact ("a circle in the colour of a ripe banana"): 432 from 54 facts in eight shapes each, and
72 directions on maps, clock faces and in mirrors; 504 in all. Two-hop prompts need two, a number and a colour ("as
many stars as there are strings on a violin, all in the colour of a flamingo"): 680 pairs of facts in eight shapes
each. Ids never change: 1 to 504 are the one-hop prompts, the two-hop prompts follow.

What is held out is combinations, for no small model can know a fact that it never met. Every fact occurs in training,
but by hash

* each fact keeps two of its eight shapes for the evaluation, in one-hop and two-hop prompts alike;
* one pair of facts in four, and one direction in four with its shapes, is kept for the evaluation;
* so is every prompt whose scene is held out from training on plain prompts (``tasks.split_of``).
"""

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Any

from .graph import Edge, Graph, Node
from .knowledge_facts import COLOR_FACTS, COUNT_FACTS, DIRECTIONS, MIRRORED, Fact
from .language import describe
from .render import SHAPES
from .tasks import split_of
from .words import NUMBERS, phrase, plural

HELD_SHAPES = 2
"""Shapes of each fact that training never sees it in."""
HELD_EVERY = 4
"""One pair of facts, and one direction with its shapes, in so many is held out."""
PER_DIRECTION, PER_MIRROR = 6, 12
"""Ordered pairs of shapes that each direction, and each mirrored relation, is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeItem:
    """One prompt and its answer."""

    prompt_id: int
    """From 1, the same in every release and whatever part is taken."""
    prompt: str
    explanation: str
    """The facts and what they come to."""
    category: str
    """One of WISE's six; of a two-hop prompt its number's."""
    subcategory: str
    facts: tuple[str, ...]
    """What has to be known, in words."""
    graph: Graph
    """The scene that is asked for."""
    is_heldout: bool
    """Whether training never draws it."""

    @property
    def hops(self) -> int:
        """Facts that are needed: 1 or 2."""
        return len(self.facts)

    @property
    def meta(self) -> dict[str, Any]:
        """GenEval-style metadata, with which rewards judge the prompt though they cannot read it."""
        return self.graph.to_meta()

    def to_json(self) -> dict[str, Any]:
        """WISE's keys, then the answer."""
        return {
            "Prompt": self.prompt,
            "Explanation": self.explanation,
            "Category": self.category,
            "Subcategory": self.subcategory,
            "prompt_id": self.prompt_id,
            "meta": self.meta,
            "graph": self.graph.to_json(),
        }


@functools.cache
def all_knowledge() -> tuple[KnowledgeItem, ...]:
    """Every prompt, by id: 504 one-hop ones and 5,440 two-hop ones."""
    items = [*_colored(), *_counted(), *_directed(), *_mirrored(), *_paired()]
    return tuple(replace(item, prompt_id=k) for k, item in enumerate(items, 1))


def knowledge_items(split: str = "heldout", limit: int | None = None) -> list[KnowledgeItem]:
    """The evaluation set, always the same, by id: the one-hop prompts of a split, and its pairs in one shape each.

    Args:
        split: "heldout", or "train" for as hard prompts that training draws (to measure memorising).
        limit: Prompts of each category at most; a smaller limit's prompts are among a larger one's.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f"Expected split 'train' or 'heldout', got {split!r}.")
    wanted, taken = split == "heldout", set[tuple[str, ...]]()
    groups: dict[str, list[KnowledgeItem]] = {}
    for item in sorted(all_knowledge(), key=lambda item: _hash(item.prompt)):
        if item.is_heldout != wanted:
            continue
        if item.hops == 2:
            if item.facts in taken or _is_held(*item.facts) != wanted:
                continue
            taken.add(item.facts)
        groups.setdefault(item.category, []).append(item)
    return sorted((item for group in groups.values() for item in group[:limit]), key=lambda item: item.prompt_id)


def item_of(prompt: str) -> KnowledgeItem | None:
    """The item of a prompt; ``None``: the benchmark has no such prompt."""
    return _by_prompt().get(prompt)


@functools.cache
def _by_prompt() -> Mapping[str, KnowledgeItem]:
    return {item.prompt: item for item in all_knowledge()}


def _colored() -> Iterator[KnowledgeItem]:
    for fact, shape in product(COLOR_FACTS, SHAPES):
        yield _item(
            f"{phrase(shape)} in the colour of {fact.text}",
            _color_said(fact),
            Graph((Node(0, shape, str(fact.value)),)),
            (fact,),
            _is_kept(fact, shape),
        )


def _counted() -> Iterator[KnowledgeItem]:
    for fact, shape in product(COUNT_FACTS, SHAPES):
        yield _item(
            f"as many {plural(shape)} as there are {fact.text}",
            _count_said(fact),
            Graph((Node(0, shape, None, int(fact.value)),)),
            (fact,),
            _is_kept(fact, shape),
        )


def _paired() -> Iterator[KnowledgeItem]:
    for count, color, shape in product(COUNT_FACTS, COLOR_FACTS, SHAPES):
        is_kept = _is_held(count.text, color.text) or _is_kept(count, shape) or _is_kept(color, shape)
        yield _item(
            f"as many {plural(shape)} as there are {count.text}, all in the colour of {color.text}",
            f"{_count_said(count)}, and {_color_said(color, first=False)}",
            Graph((Node(0, shape, str(color.value), int(count.value)),)),
            (count, color),
            is_kept,
        )


def _directed() -> Iterator[KnowledgeItem]:
    for direction in DIRECTIONS:
        said = f'On {direction.frame}, "{direction.text}" means {direction.relation}'
        for first, second in _shape_pairs(direction.text, PER_DIRECTION):
            prompt = f"{direction.frame}: {phrase(first)} {direction.text} {phrase(second)}"
            yield _placed(prompt, said, direction.relation, first, second, "Relative Position")


def _mirrored() -> Iterator[KnowledgeItem]:
    for relation, mirrored in MIRRORED.items():
        for first, second in _shape_pairs(f"mirror {relation}", PER_MIRROR):
            prompt = f"the mirror image of {phrase(first)} {relation} {phrase(second)}"
            yield _placed(prompt, "A mirror swaps left and right", mirrored, first, second, "Viewpoint")


def _placed(prompt: str, said: str, relation: str, first: str, second: str, subcategory: str) -> KnowledgeItem:
    graph = Graph((Node(0, first), Node(1, second)), (Edge(0, relation, 1),))
    fact = Fact(text=said, value=relation, category="SPACE", subcategory=subcategory)
    return _item(prompt, said, graph, (fact,), _is_held(prompt))


def _item(prompt: str, said: str, graph: Graph, facts: Sequence[Fact], is_kept: bool) -> KnowledgeItem:
    """An item without its id."""
    return KnowledgeItem(
        prompt_id=0,
        prompt=prompt,
        explanation=f"{said}, so the image shows {'exactly ' if graph.nodes[0].count > 1 else ''}{describe(graph)}.",
        category=facts[0].category,
        subcategory=facts[0].subcategory,
        facts=tuple(fact.text for fact in facts),
        graph=graph,
        is_heldout=is_kept or split_of(graph) == "heldout",
    )


def _color_said(fact: Fact, first: bool = True) -> str:
    return f"{'The' if first else 'the'} colour of {fact.text} is {fact.value}"


def _count_said(fact: Fact) -> str:
    return f"There are {NUMBERS[int(fact.value) - 1]} {fact.text}"


def _shape_pairs(name: str, num: int) -> list[tuple[str, str]]:
    """Some ordered pairs of two shapes, other ones for each name."""
    return sorted(permutations(SHAPES, 2), key=lambda pair: _hash(name, *pair))[:num]


def _is_kept(fact: Fact, shape: str) -> bool:
    """Whether a fact is not seen in this shape in training."""
    return shape in sorted(SHAPES, key=lambda each: _hash(fact.text, each))[:HELD_SHAPES]


def _is_held(*words: str) -> bool:
    return _hash(*words) % HELD_EVERY == 0


def _hash(*words: str) -> int:
    """A number that is the same in every process."""
    return int(hashlib.sha256("\n".join(words).encode()).hexdigest()[:12], 16)
