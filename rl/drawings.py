"""Drawing: one line of an evaluation, a transcript judged and held against the truth, emission by emission."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..agents.rollout import Episode
from ..agents.trajectory import Trajectory
from ..envs.scenes.detect import detect
from ..envs.scenes.tasks import Task, verdict
from ..envs.stages import Stage
from ..envs.transcript import Transcript
from ..rewards.review import review
from ..rewards.scenes import SceneReward
from ..rewards.summary import METRICS, Result

SEEDS = 4
"""Most seeds that the evaluation set itself gives to a prompt; further samples are numbered after them."""
LATER = frozenset({"decodes", "questions"})
"""What evaluations of earlier versions did not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing(Result):
    """One drawing, judged, with what its emissions were worth and what it cost."""

    id: str
    """Of the transcript."""
    chunk: int
    """The chunk it was drawn in."""
    seen: bool
    """Whether training draws this prompt too."""
    plans: tuple[float, ...]
    """For each judged plan: 1 if it was true to the prompt and to the canvas, else 0."""
    repairs: tuple[float, ...]
    """For each judged refinement: by how much it brought the canvas closer to its plan, in [-1, 1]."""
    sketches: tuple[float, ...]
    """For each judged sketch: how much of it is as planned, in [0, 1]."""
    emissions: int
    illegal: int
    """Emissions that were illegal."""
    nfe: int
    """Network evaluations, guidance branches counted one by one."""
    tokens: int
    """Text tokens sampled."""
    calls: int
    """Calls of remote models while it was drawn, those of a search's judge included."""
    remote_tokens: int
    """Tokens that these read and wrote."""
    seconds: float
    """Its share of the time its chunk took."""
    decodes: int | None = None
    """Latents decoded to pixels, looks at unfinished images among them; ``None``: not counted."""
    questions: int | None = None
    """Questions that a search put to its verifier, whoever answered them; ``None``: not counted."""
    marks: Mapping[str, float | None] = field(default_factory=dict)
    """Further marks of the benchmark, by name; ``None``: no verdict."""
    error: str = ""
    """Why the benchmark's judge gave none."""

    @property
    def lacks_marks(self) -> bool:
        """Whether the benchmark's judge gave no verdict."""
        return None in self.marks.values()

    def marked(self, marks: Mapping[str, float | None], error: str = "") -> "Drawing":
        """The same with marks of the benchmark; "official", "strict" and "soft" take the place of the exact ones."""
        given = dict(marks)
        verdicts: dict[str, Any] = {name: given.pop(name) for name in METRICS if name in given}
        return replace(self, marks=given, error=error, **verdicts)

    def to_record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Drawing":
        """The drawing of a record.

        Raises:
            ValueError: A key is missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if wrong := ", ".join(sorted((set(record) ^ names) - LATER)):
            raise ValueError(f"Expected a drawing of this version, got keys missing or unknown: {wrong}.")
        pairs = tuple((bool(said), bool(fault)) for said, fault in record["inspections"])
        listed = {name: tuple(record[name]) for name in ("refinements", "plans", "repairs", "sketches")}
        return cls(**{**record, **listed, "inspections": pairs})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One prompt of a benchmark."""

    prompt: str
    meta: Mapping[str, Any]
    """What rewards need to know of it."""
    tag: str
    """Its task."""
    seed: int = 0
    """Distinguishes drawings that the benchmark itself asks for of one prompt, below ``SEEDS``."""
    seen: bool = False
    """Whether training draws this prompt too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A drawing to be made."""

    task: Asked | Task
    sample: int
    """Which of several drawings of the task, from 0."""

    @property
    def number(self) -> int:
        """Which of all drawings of the prompt; it does not depend on how many tasks or samples there are."""
        return SEEDS * self.sample + self.task.seed

    def episode(self, seed: int) -> Episode:
        """What a rollout draws; its noise does not depend on what else is drawn.

        Args:
            seed: Of the evaluation.
        """
        hashed = hashlib.sha256(f"{self.task.tag}\n{self.task.prompt}".encode()).digest()
        noise = (seed, 0, int.from_bytes(hashed[:4]), self.number)  # as in training: seed, step, prompt, member
        return Episode(prompt=self.task.prompt, meta=self.task.meta, seed=noise)


def judged(
    errand: Errand,
    trajectory: Trajectory,
    *,
    chunk: int,
    seconds: float,
    is_planned: bool = True,
    is_inspected: bool = True,
) -> Drawing:
    """Judge a finished trajectory by the exact world, as far as it can; its transcript is graded on the way.

    Args:
        errand: What was to be drawn.
        trajectory: What became of it.
        chunk: Number of its chunk.
        seconds: Its share of the chunk's time.
        is_planned: Whether the plans are the policy's; fixed words are neither true nor false.
        is_inspected: Whether the inspections are.
    """
    transcript, cost = trajectory.transcript, trajectory.cost
    seen = review(transcript)
    score = SceneReward().score(seen)
    transcript.grade(score)
    terms = [(name, value) for step in seen.steps for name, value in step.items() if value is not None]
    return Drawing(
        task=errand.task.tag,
        prompt_id=errand.task.prompt,
        seed=errand.number,
        official=score.terms["official"],
        strict=score.terms["strict"],
        soft=score.terms["soft"],
        # A search draws more than it shows.
        images=cost.decodes - cost.previews or len(transcript.images),
        steps=cost.steps,
        inspections=seen.inspections if is_inspected else (),
        refinements=soft_changes(transcript, errand.task.meta) if seen.verdict is not None else (),
        id=transcript.id,
        chunk=chunk,
        seen=errand.task.seen,
        plans=tuple(value for name, value in terms if is_planned and name == "plan"),
        repairs=seen.refinements,
        sketches=tuple(value for name, value in terms if is_planned and name == "sketch"),
        emissions=transcript.spent,
        illegal=sum(bool(entry.error) for entry in transcript.emissions),
        nfe=cost.nfe,
        tokens=cost.tokens,
        calls=cost.calls,
        remote_tokens=cost.remote_tokens,
        seconds=seconds,
        decodes=cost.decodes,
        questions=cost.questions,
    )


def soft_changes(transcript: Transcript, meta: Mapping[str, Any]) -> tuple[float, ...]:
    """By how much each refinement changed the soft score of the canvas, in [-1, 1].

    Args:
        transcript: Its accepted images are looked at.
        meta: GenEval-style metadata of the prompt.
    """
    images = [entry for entry in transcript.accepted if entry.stage.is_image]
    return tuple(
        _soft(after.content, meta) - _soft(before.content, meta)
        for before, after in pairwise(images)
        if after.stage is Stage.REFINE
    )


def _soft(canvas: str | np.ndarray, meta: Mapping[str, Any]) -> float:
    return round(verdict(detect(np.asarray(canvas)), meta).soft, 9)  # no change is exactly 0
