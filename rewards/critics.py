"""Critics: the two judgements the process is built on, and the one on its outcome.

While it draws, the process asks itself twice (arXiv 2604.04746, section 3): is the plan true to the prompt, where
leaving things for later is not wrong; and is the sketch true to the plan? A critic answers both from outside, and a
third: is the picture what the prompt asked for? It answers for rewards and for labels of training data alike, with
words on what is wrong and on what would put it right. Who answers does not matter: the exact world (``exact.py``), a
remote judge, or a model that can be asked yes or no (``Answerer``), such as the policy itself.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from ..envs.markup import has_refine, parse_plan
from ..envs.protocols import Answerer, Cost
from ..envs.stages import Stage
from ..envs.transcript import Entry, Transcript
from .question import Judge, Question, Request, Verdict

Kind = Literal["plan", "sketch", "outcome"]
YES, NO = "yes", "no"
RULES = (
    "You judge one step of a picture that is drawn in rounds: a plan in words, a sketch, an inspection, a correction. "
)
QUESTIONS: Mapping[Kind, Question] = {
    "plan": Question(
        name="plan",
        instructions=RULES
        + "Judge the plan. Say yes if its instruction and its description agree with each other, change something, and "
        "contradict nothing in the prompt; the image, where there is one, is the canvas before the plan. A plan may "
        "leave parts of the prompt for later: being incomplete is not wrong. What the plan or one of the earlier "
        "instructions announces as a placeholder may differ from the prompt for now. Say no if it adds what the prompt "
        "does not ask for, contradicts the number, colour, kind or place of something, or takes away what was right.",
        choices=(YES, NO),
        notes=("explanation", "correction"),
    ),
    "sketch": Question(
        name="sketch",
        instructions=RULES
        + "Judge the sketch against the plan, not against anything else. The last image is the sketch; the one before "
        "it, where there are two, is the canvas the plan started from. Say yes if the sketch shows exactly what the "
        "plan's description says once its instruction is carried out: every object, colour, number and place, and "
        "nothing else. Say no otherwise, and write as the correction which edits would put it right.",
        choices=(YES, NO),
        notes=("explanation", "correction"),
    ),
    "outcome": Question(
        name="outcome",
        instructions=RULES
        + "Judge the finished picture. Say yes if it shows exactly what the prompt asks for: every object in its "
        "number, colour and place, and no object besides. Say no otherwise.",
        choices=(YES, NO),
        notes=("explanation", "correction"),
    ),
}
"""What a remote judge is told. Choices carry codes and notes come first, see ``Question``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Query:
    """One thing to be judged."""

    kind: Kind
    prompt: str
    plan: str = ""
    """The plan that is judged, or that the sketch was drawn by."""
    earlier: tuple[str, ...] = ()
    """Plans of earlier rounds."""
    is_corrected: bool = False
    """Whether the plan was asked for by an inspection, in place of a wrong one."""
    before: np.ndarray | None = None
    """The canvas on which the plan was made, uint8 (size, size, 3); ``None``: blank."""
    canvas: np.ndarray | None = None
    """The sketch or the finished picture, alike."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the task, for critics that know the world."""

    @property
    def images(self) -> tuple[np.ndarray, ...]:
        """What is to be looked at, in the order in which it was drawn."""
        shown = (self.canvas,) if self.kind == "outcome" else (self.before, self.canvas)
        return tuple(image for image in shown if image is not None)

    @property
    def fields(self) -> dict[str, Any]:
        """What is to be read, as JSON holds it."""
        if self.kind == "outcome":
            return {"prompt": self.prompt}
        plan = _words(self.plan)
        if self.kind == "sketch":
            return {"plan": plan}
        earlier = [_words(text)["instruction"] for text in self.earlier]
        told = {"earlier_instructions": earlier} if earlier else {}
        return {"prompt": self.prompt, "plan": plan, **told, "replaces_a_wrong_plan": self.is_corrected}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a critic says of one thing."""

    p_yes: float | None
    """Probability in [0, 1] that it is as it should be; ``None``: no verdict."""
    explanation: str = ""
    correction: str = ""
    """Which edits would put it right, in the words of an instruction; "" where nothing is wrong or nothing is known."""
    cost: Cost = field(default_factory=Cost)

    @property
    def is_right(self) -> bool | None:
        """The verdict as yes or no."""
        return None if self.p_yes is None else self.p_yes >= 0.5


class Critic(Protocol):
    """Something that judges queries, many at a time."""

    def judge(self, queries: Sequence[Query]) -> list[Judgement]:
        """One judgement for each query, in order. A failure is no verdict.

        Raises:
            OSError: Nobody can be asked any more.
        """
        ...


@dataclass(frozen=True, slots=True)
class RemoteCritic:
    """A judge behind a server, asked the three questions with guards."""

    judge_client: Judge

    def judge(self, queries: Sequence[Query]) -> list[Judgement]:
        """One judgement for each query."""
        requests = [Request(question=QUESTIONS[q.kind], fields=q.fields, images=q.images) for q in queries]
        return [_judgement(verdict) for verdict in self.judge_client.ask(requests)]


@dataclass(frozen=True, slots=True)
class AnsweringCritic:
    """A model that can be asked yes or no about an image; it gives probabilities and no words."""

    answerer: Answerer

    def judge(self, queries: Sequence[Query]) -> list[Judgement]:
        """One judgement for each query; a plan on a blank canvas is asked about on a white one."""
        images = [q.images[-1] if q.images else np.full((64, 64, 3), 255, np.uint8) for q in queries]
        asked = [
            f"{QUESTIONS[q.kind].instructions}\n{json.dumps(q.fields, ensure_ascii=False)}\nAnswer yes or no."
            for q in queries
        ]
        return [Judgement(p_yes=p_yes) for p_yes in self.answerer.answer(images, asked)]


def queries_of(transcript: Transcript) -> dict[int, Query]:
    """What there is to judge in a transcript: by emission, its plans, sketches and refinements.

    Illegal emissions and those from outside are not judged; a canvas given from outside is what comes before.
    """
    queries: dict[int, Query] = {}
    canvas: np.ndarray | None = None
    before: np.ndarray | None = None
    plans: list[str] = []
    is_asked = False
    for k, entry in enumerate(transcript.emissions):
        if entry.error:
            continue
        if isinstance(entry.content, np.ndarray):
            if plans and not entry.outside:
                queries[k] = Query(
                    kind="sketch",
                    prompt=transcript.prompt,
                    plan=plans[-1],
                    before=before,
                    canvas=entry.content,
                    meta=transcript.meta,
                )
            canvas = entry.content
        elif entry.stage is Stage.PLAN and not entry.outside:
            before = canvas
            queries[k] = Query(
                kind="plan",
                prompt=transcript.prompt,
                plan=entry.content,
                earlier=tuple(plans),
                is_corrected=is_asked,
                before=before,
                meta=transcript.meta,
            )
            plans.append(entry.content)
        is_asked = entry.stage is Stage.INSPECT and asks(entry)
    return queries


def outcome_of(transcript: Transcript) -> Query | None:
    """What there is to judge of the canvas as it stands; ``None``: nothing was drawn."""
    if transcript.canvas is None:
        return None
    return Query(kind="outcome", prompt=transcript.prompt, canvas=transcript.canvas, meta=transcript.meta)


def asks(entry: Entry) -> bool:
    """Whether an inspection asks for a correction."""
    return isinstance(entry.content, str) and has_refine(entry.content)


def _words(plan: str) -> dict[str, str]:
    """A plan as JSON holds it."""
    try:
        ins, des = parse_plan(plan)
    except ValueError:  # of records made elsewhere
        return {"instruction": plan, "description": ""}
    return {"instruction": ins, "description": des}


def _judgement(verdict: Verdict) -> Judgement:
    data = verdict.data or {}
    return Judgement(
        p_yes=None if verdict.data is None else float(data["choice"] == YES),
        explanation=str(data.get("explanation", verdict.error)),
        correction=str(data.get("correction", "")),
        cost=Cost(calls=verdict.attempts, remote_tokens=verdict.prompt_tokens + verdict.completion_tokens),
    )
