"""Benchmarks: what is asked for, who judges what was drawn, and what is said of it in the end.

A benchmark gives what is to be drawn, marks finished drawings batch by batch, and adds a table of its own to those that
every evaluation has. What the exact world can tell of a prompt (the official, strict and soft verdicts, plans,
sketches, inspections) is told whatever the benchmark; its marks come beside, or in place of the verdicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..envs.scenes.knowledge import knowledge_items
from ..envs.scenes.tasks import Task, heldout
from ..envs.transcript import Transcript
from ..rewards.knowledge import wise_items
from ..rewards.question import Judge, Question
from ..rewards.wise import WISE_V1, WiseItem, WiseProtocol
from ..rewards.wise_scores import score_images, score_of, write_image
from ..rewards.wise_totals import summarise_wise
from .drawings import SEEDS, Asked, Drawing, Errand

Marks = Mapping[str, float | None]
"""Of one drawing, by name; ``None``: no verdict. "official", "strict" and "soft" take the place of the exact ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What a benchmark adds to the tables."""

    note: str = ""
    """What is to be known before any table is read."""
    markdown: str = ""
    record: Mapping[str, Any] | None = None
    """Plain data for JSON; ``None``: nothing."""


class Benchmark(Protocol):
    """Something to be evaluated on."""

    def asked(self) -> Sequence[Asked | Task]:
        """All that is asked for, task by task."""
        ...

    def judge(self, errands: Sequence[Errand], transcripts: Sequence[Transcript], folder: Path) -> list[Marks]:
        """Marks of finished drawings, in order.

        Args:
            errands: What they were drawn for.
            transcripts: The drawings.
            folder: Of the evaluation; for what the benchmark itself keeps of them.
        """
        ...

    def conclude(self, drawings: Sequence[Drawing], folder: Path) -> Conclusion:
        """The benchmark's own table."""
        ...


class Scenes:
    """The mini-world's evaluation set: GenEval's six tasks and compositions, judged by the exact world."""

    def __init__(self, split: str, limit: int | None) -> None:
        self.tasks = heldout(split, limit)

    def asked(self) -> Sequence[Task]:
        """The set of ``envs.scenes.tasks``."""
        return self.tasks

    def judge(self, errands: Sequence[Errand], transcripts: Sequence[Transcript], folder: Path) -> list[Marks]:
        """None beside the exact ones."""
        return [{}] * len(errands)

    def conclude(self, drawings: Sequence[Drawing], folder: Path) -> Conclusion:
        """Nothing to add."""
        return Conclusion()


class Wise:
    """Prompts that take knowledge, one image each, with WISE's marks and WiScore."""

    def __init__(
        self,
        items: Sequence[WiseItem],
        protocol: WiseProtocol,
        judge: Judge,
        question: Question | None = None,
        metas: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Args:

        items: What is asked for.
        protocol: How marks are added up.
        judge: Gives them.
        question: What it is told; by default the protocol's own.
        metas: What the exact world knows of the items, in their order; empty: nothing.
        """
        self.items, self.protocol, self.scorer, self.question = list(items), protocol, judge, question
        self.metas = metas or [{}] * len(self.items)
        self.known: dict[tuple[str, int], WiseItem] = {}
        """By prompt, and which of the items with that prompt."""
        self._asked = [self._ask(item, meta) for item, meta in zip(self.items, self.metas, strict=True)]

    def _ask(self, item: WiseItem, meta: Mapping[str, Any]) -> Asked:
        seed = sum(prompt == item.prompt for prompt, _ in self.known)
        self.known[item.prompt, seed] = item
        return Asked(prompt=item.prompt, meta=meta, tag=item.category, seed=seed)

    def asked(self) -> list[Asked]:
        """A prompt for each item; its category is its task."""
        return self._asked

    def judge(self, errands: Sequence[Errand], transcripts: Sequence[Transcript], folder: Path) -> list[Marks]:
        """The protocol's marks; a drawing without an image shows a blank canvas. First ones are kept as WISE does."""
        items = [self.known[errand.task.prompt, errand.task.seed] for errand in errands]
        images = [canvas_of(transcript) for transcript in transcripts]
        for errand, item, image in zip(errands, items, images, strict=True):
            if errand.sample == 0:
                write_image(folder / "images", item.prompt_id, image)
        # once: the client asks again by itself, in other words
        scores = score_images(self.scorer, self.protocol, items, images, question=self.question, attempts=1)
        return [dict.fromkeys(self.protocol.weights) if s.marks is None else dict(s.marks) for s in scores]

    def conclude(self, drawings: Sequence[Drawing], folder: Path) -> Conclusion:
        """WiScore by category, and both overall scores."""
        scores = []
        for drawing in drawings:
            marks = {name: value for name, value in drawing.marks.items() if value is not None}
            is_judged = len(marks) == len(self.protocol.weights)
            error = "" if is_judged else "no verdict"
            item = self.known[drawing.prompt_id, drawing.seed % SEEDS]
            scores.append(score_of(self.protocol, item, marks if is_judged else None, error=error))
        summary = summarise_wise(self.protocol, self.items, scores)
        return Conclusion(markdown=summary.to_markdown(), record={"wise": summary.to_dict()})


def knowledge(split: str, limit: int | None, judge: Judge) -> Wise:
    """The mini-world's own knowledge benchmark, in the form of WISE."""
    items = knowledge_items(split, limit)
    return Wise(wise_items(items), WISE_V1, judge, metas=[item.meta for item in items])


def canvas_of(transcript: Transcript) -> np.ndarray:
    """The finished picture, uint8 (size, size, 3); white where nothing was drawn."""
    canvas = transcript.canvas
    return np.full((transcript.size, transcript.size, 3), 255, np.uint8) if canvas is None else canvas
