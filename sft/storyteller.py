"""Storyteller: how a real picture comes about step by step, told by a language model and checked by a judge.

The scene graph says what each step adds and what the scene holds after it; the model puts that into the words of plans,
``<ins>`` and ``<des>``. Then it rewrites a part of the steps into detours, as the paper does (arXiv 2604.04746, section
3.2: attributes modified, things swapped, removed or replaced): the step first draws a placeholder that it announces as
such, and a step more puts it right. What is described after that is the old step's description, word for word, so
the final picture is what it was; a second question has the judge confirm that the words lead there.

Nothing here fails: a story that could not be had, read or confirmed is a reason why there is none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..agents.remote import ATTEMPTS
from ..agents.remote_chat import Inquiry, consult
from ..envs.markup import Inspection, Plan
from ..envs.protocols import Chat
from ..rewards.question import Judge, Request
from .corrections import COMPLETE, FOLLOWS
from .multi_turn import DETOUR_RATE, MAX_IMAGES
from .real_graphs import PHOTO, RealGraph
from .story_questions import DETOURS, NARRATE, REWRITE, TRUE_DETOUR, TRUE_STORY, read_detour, read_plans, refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What a story is told of."""

    graph: RealGraph
    states: tuple[RealGraph, ...]
    """Nested closed sub-graphs, the last one the whole."""
    rng: np.random.Generator = field(compare=False)
    """Decides the detours."""

    @classmethod
    def draw(cls, graph: RealGraph, rng: np.random.Generator) -> "Outline":
        """Of a graph, cut at random into 2 to ``MAX_IMAGES`` states."""
        num = int(rng.integers(2, min(MAX_IMAGES, len(graph.things)) + 1))
        return cls(graph=graph, states=tuple(graph.subgraphs(rng, num)), rng=rng)

    @property
    def prompt(self) -> str:
        """The prompt."""
        return PHOTO + self.graph.describe()

    @property
    def steps(self) -> list[dict[str, str]]:
        """What each step adds, and what the scene holds after it."""
        before = [set[int](), *({thing.id for thing in state.things} for state in self.states)]
        return [
            {"adds": state.describe(known), "scene": state.describe()}
            for state, known in zip(self.states, before, strict=False)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One round of a story."""

    plan: Plan
    kind: str = "add"
    """"add", or what puts a detour right: a key of ``DETOURS``."""
    is_detour: bool = False
    """Whether it draws a placeholder, on purpose and announced."""
    inspection: Inspection
    """What is true of a sketch that follows the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A prompt and how its picture comes about."""

    prompt: str
    steps: tuple[Step, ...]
    lost: tuple[str, ...] = ()
    """Why detours were left out of it, one reason for each."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no story."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Storyteller:
    """Tells stories, many at a time."""

    chat: Chat
    """Writes."""
    judge: Judge
    """Checks; a ``JudgeClient`` is both."""
    detour_rate: float = DETOUR_RATE
    attempts: int = ATTEMPTS

    def __post_init__(self) -> None:
        if not 0 <= self.detour_rate <= 1:
            raise ValueError(f"Expected detour_rate in [0, 1], got {self.detour_rate!r}.")

    def tell(self, outlines: Sequence[Outline]) -> list[Story | Failure]:
        """A story for each outline, in order, or why there is none. A detour that fails is left out of its story.

        Raises:
            OSError: The server is out of reach.
        """
        told: list[Story | Failure] = list(self._narrate(outlines))
        whole = [k for k, story in enumerate(told) if isinstance(story, Story)]
        stories = [story for story in told if isinstance(story, Story)]
        for k, story in zip(whole, self._digress([outlines[k] for k in whole], stories), strict=True):
            told[k] = story
        return told

    def _narrate(self, outlines: Sequence[Outline]) -> Iterator[Story | Failure]:
        """Stories that go straight, or why there are none."""
        inquiries = [
            Inquiry(
                instructions=NARRATE,
                fields={"question": "narrate", "prompt": outline.prompt, "steps": outline.steps},
                read=partial(read_plans, num=len(outline.states)),
            )
            for outline in outlines
        ]
        answers = consult(self.chat, inquiries, self.attempts)
        written = [k for k, answer in enumerate(answers) if not answer.error]
        verdicts = self.judge.ask([_story_request(outlines[k], answers[k].data) for k in written])
        refusals = dict(zip(written, map(refusal, verdicts), strict=True))
        for k, (outline, answer) in enumerate(zip(outlines, answers, strict=True)):
            reason = "story not written" if k not in refusals else refusals[k] and f"story {refusals[k]}"
            yield Failure(reason) if reason else _straight(outline, answer.data)

    def _digress(self, outlines: Sequence[Outline], stories: Sequence[Story]) -> list[Story]:
        """Stories with detours."""
        chosen = [
            (i, k, kind)
            for i, (outline, story) in enumerate(zip(outlines, stories, strict=True))
            for k, kind in chosen_detours(outline, self.detour_rate)
        ]
        fields = [_detour_fields(stories[i], k, kind) for i, k, kind in chosen]
        inquiries = [Inquiry(instructions=REWRITE, fields=each, read=read_detour) for each in fields]
        answers = consult(self.chat, inquiries, self.attempts)
        written = [n for n, answer in enumerate(answers) if not answer.error]
        requests = [_detour_request(fields[n], *answers[n].data) for n in written]
        refusals = dict(zip(written, map(refusal, self.judge.ask(requests)), strict=True))
        steps, lost = [list(story.steps) for story in stories], [list[str]() for _ in stories]
        for n, (i, k, kind) in reversed(list(enumerate(chosen))):  # from behind: places before stay as they are
            reason = refusals.get(n, "not written")
            if reason:
                lost[i].append(f"detour {reason}")
            else:
                steps[i][k : k + 1] = _detoured(steps[i][k], outlines[i], k, kind, *answers[n].data)
        return [
            replace(story, steps=tuple(each), lost=tuple(reasons))
            for story, each, reasons in zip(stories, steps, lost, strict=True)
        ]


def chosen_detours(outline: Outline, rate: float) -> list[tuple[int, str]]:
    """Which steps become detours of which kind: as many as the cap leaves room for, by the outline's randomness."""
    chosen, known = list[tuple[int, str]](), set[int]()
    for k, state in enumerate(outline.states):
        new = [thing for thing in state.things if thing.id not in known]
        kinds = ["replace", "remove"]
        kinds += ["change"] if any(thing.attribute for thing in new) else []
        kinds += ["swap"] if any(each.src not in known for each in state.relations) else []
        chance, kind = outline.rng.random(), kinds[int(outline.rng.integers(len(kinds)))]
        if chance < rate and len(outline.states) + len(chosen) < MAX_IMAGES:
            chosen.append((k, kind))
        known |= {thing.id for thing in new}
    return chosen


def _straight(outline: Outline, plans: Sequence[Plan]) -> Story:
    rest = _missing(outline)
    steps = (Step(plan=plan, inspection=_inspection(rest[k])) for k, plan in enumerate(plans))
    return Story(prompt=outline.prompt, steps=tuple(steps))


def _detoured(step: Step, outline: Outline, k: int, kind: str, plan: Plan, correction: str) -> tuple[Step, Step]:
    """A step as a detour and its correction, after which the scene is described as it was."""
    inspection = _inspection(_missing(outline)[k], correction.rstrip(".; "))
    detour = Step(plan=plan, kind="add", is_detour=True, inspection=inspection)
    return detour, replace(step, plan=Plan(correction, step.plan.des), kind=kind)


def _missing(outline: Outline) -> list[str]:
    """What is still to be added after each step; "" after the last one."""
    known = [{thing.id for thing in state.things} for state in outline.states]
    return [outline.graph.describe(ids) for ids in known[:-1]] + [""]


def _inspection(missing: str, pending: str = "") -> Inspection:
    """The positive inspection, in the mini-world's form."""
    if not missing and not pending:
        return Inspection(COMPLETE)
    parts = [FOLLOWS, missing and f"still missing: {missing}", pending and f"still to change: {pending}"]
    return Inspection("; ".join(part for part in parts if part))


def _story_request(outline: Outline, plans: Sequence[Plan]) -> Request:
    steps = [{**step, "plan": plan._asdict()} for step, plan in zip(outline.steps, plans, strict=True)]
    return Request(question=TRUE_STORY, fields={"prompt": outline.prompt, "steps": steps})


def _detour_fields(story: Story, k: int, kind: str) -> dict[str, Any]:
    before = story.steps[k - 1].plan.des if k else ""
    step = story.steps[k].plan._asdict()
    return {"question": "rewrite", "kind": kind, "detour": DETOURS[kind], "before": before, "step": step}


def _detour_request(fields: Mapping[str, Any], plan: Plan, correction: str) -> Request:
    told = {name: fields[name] for name in ("detour", "before", "step")}
    return Request(question=TRUE_DETOUR, fields={**told, "written": {**plan._asdict(), "correction": correction}})
