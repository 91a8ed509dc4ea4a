"""Benchmarks: what is asked for, who judges what was drawn, and what is said of it in the end.

A benchmark gives what is to be drawn, marks finished drawings batch by batch, and adds a table of its own to those that
every evaluation has. What the exact world can tell of a prompt (the official, strict and soft verdicts, plans,
sketches, inspections) is told whatever the benchmark; its marks come beside, or in place of the verdicts.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..envs.files import write_whole
from ..envs.scenes.knowledge import knowledge_items
from ..envs.scenes.tasks import Task, heldout
from ..envs.transcript import Transcript
from ..rewards.knowledge import wise_items
from ..rewards.question import Judge, Question
from ..rewards.wise import WISE_V1, WiseItem, WiseProtocol
from ..rewards.wise_scores import score_images, score_of, write_image
from ..rewards.wise_totals import summarise_wise
from .drawings import SEEDS, Asked, Drawing, Errand


class Marked(NamedTuple):
    """What a benchmark's judge says of one drawing."""

    marks: Mapping[str, float | None]
    """By name; ``None``: no verdict. "official", "strict" and "soft" take the place of the exact ones."""
    error: str = ""
    """Why there is no verdict."""


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

    @property
    def marks(self) -> Sequence[str]:
        """Names of the marks that its judge gives; none: it asks nobody."""
        ...

    def asked(self) -> Sequence[Asked | Task]:
        """All that is asked for, task by task."""
        ...

    def keep(self, errands: Sequence[Errand], transcripts: Sequence[Transcript], folder: Path) -> None:
        """Keep pictures where the benchmark's own scripts look for them; done before they are judged, perhaps twice.

        Args:
            errands: What they were drawn for.
            transcripts: The drawings.
            folder: Of the evaluation.
        """
        ...

    def judge(self, errands: Sequence[Errand], transcripts: Sequence[Transcript], folder: Path) -> list[Marked]:
        """Marks of finished drawings, in order; only called where there are marks to give.

        Args:
            errands: What they were drawn for.
            transcripts: The drawings.
            folder: Of the evaluation.
        """
        ...

    def conclude(self, drawings: Sequence[Drawing], folder: Path) -> Conclusion:
        """The benchmark's own table."""
        ...


class Scenes:
    """The mini-world's evaluation set: GenEval's six tasks and compositions, judged by the exact world."""

    marks = ()

    def __init__(self, split: str, limit: int | None) -> None:
        self.tasks = heldout(split, limit)

    def asked(self) -> Sequence[Task]:
        """The set of ``envs.scenes.tasks``."""
        return self.tasks

    def keep(self, errands: Sequence[Errand], transcripts: Sequence[Transcript], folder: Path) -> None:
        """The transcripts are enough."""

    def judge(self, errands: Sequence[Errand], transcripts: Sequence[Transcript], folder: Path) -> list[Marked]:
        """None beside the exact ones."""
        return [Marked({})] * len(errands)

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
        self.marks = tuple(protocol.weights)
        places = occurrences([item.prompt for item in self.items])
        self.known = {(item.prompt, seed): item for item, seed in zip(self.items, places, strict=True)}
        """By prompt, and which of the items with that prompt."""
        self._asked = [
            Asked(prompt=item.prompt, meta=meta, tag=item.category, seed=seed)
            for item, meta, seed in zip(self.items, metas or [{}] * len(self.items), places, strict=True)
        ]

    def asked(self) -> list[Asked]:
        """A prompt for each item; its category is its task."""
        return self._asked

    def keep(self, errands: Sequence[Errand], transcripts: Sequence[Transcript], folder: Path) -> None:
        """The first picture of each prompt, by its id."""
        for errand, transcript in zip(errands, transcripts, strict=True):
            if errand.sample == 0:
                item = self.known[errand.task.prompt, errand.task.seed]
                write_image(folder / "images", item.prompt_id, canvas_of(transcript))

    def judge(self, errands: Sequence[Errand], transcripts: Sequence[Transcript], folder: Path) -> list[Marked]:
        """The protocol's marks; a drawing without an image shows a blank canvas."""
        items = [self.known[errand.task.prompt, errand.task.seed] for errand in errands]
        images = [canvas_of(transcript) for transcript in transcripts]
        # once: the client asks again by itself, in other words
        scores = score_images(self.scorer, self.protocol, items, images, question=self.question, attempts=1)
        none = dict.fromkeys(self.marks)
        return [Marked(none, s.error) if s.marks is None else Marked(dict(s.marks)) for s in scores]

    def conclude(self, drawings: Sequence[Drawing], folder: Path) -> Conclusion:
        """WiScore by category, and both overall scores; the official scores file is written beside the images."""
        scores = []
        for drawing in drawings:
            marks = {name: value for name, value in drawing.marks.items() if value is not None}
            is_judged = len(marks) == len(self.marks)
            item = self.known[drawing.prompt_id, drawing.seed % SEEDS]
            scores.append(score_of(self.protocol, item, marks if is_judged else None, error=drawing.error))
        firsts = [score for score, drawing in zip(scores, drawings, strict=True) if drawing.seed < SEEDS]
        lines = [json.dumps(score.to_record()) + "\n" for score in firsts if score.marks is not None]
        write_whole(folder / "scores.jsonl", "".join(lines))
        summary = summarise_wise(self.protocol, self.items, scores)
        return Conclusion(markdown=summary.to_markdown(), record={"wise": summary.to_dict()})


def knowledge(split: str, limit: int | None, judge: Judge) -> Wise:
    """The mini-world's own knowledge benchmark, in the form of WISE."""
    items = knowledge_items(split, limit)
    metas = [item.meta for item in items]
    return Wise(wise_items(items), WISE_V1, judge, WISE_V1.question("strict"), metas)


def occurrences(prompts: Sequence[str]) -> list[int]:
    """For each prompt how many equal ones come before it.

    Raises:
        ValueError: One occurs more often than drawings of a prompt can be told apart.
    """
    counts = Counter[str]()
    places = []
    for prompt in prompts:
        places.append(counts[prompt])
        counts[prompt] += 1
        if counts[prompt] > SEEDS:
            raise ValueError(f"Expected each prompt at most {SEEDS} times, got more of {prompt!r}; set num_samples.")
    return places


def canvas_of(transcript: Transcript) -> np.ndarray:
    """The finished picture, uint8 (size, size, 3); white where nothing was drawn."""
    canvas = transcript.canvas
    return np.full((transcript.size, transcript.size, 3), 255, np.uint8) if canvas is None else canvas
