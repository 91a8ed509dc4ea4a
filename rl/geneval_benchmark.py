"""GenEval as a benchmark: images in the official layout, official results, and our intervals beside the official table.

images/00000/metadata.jsonl, images/00000/samples/0000.png …    what the benchmark's own scripts read
geneval.jsonl                                                   results as those scripts write them
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..envs.transcript import Transcript
from ..rewards.geneval import Detector
from ..rewards.geneval_folder import GenevalFolder
from ..rewards.geneval_results import ImageResult, append_results, judge_images, resume_results
from ..rewards.geneval_summary import official_summary
from .benchmarks import Conclusion, Marks, canvas_of
from .drawings import Asked, Drawing, Errand

BLIND = "\n\n**The detector knows none of {num} of the {of} classes** that are asked for, and finds such prompts wrong."


class Geneval:
    """The benchmark's prompts, or others in its format."""

    def __init__(
        self, entries: Sequence[Mapping[str, Any]], detector: Detector | None, limit: int | None = None, note: str = ""
    ) -> None:
        """Args:

        entries: Metadata of the prompts, in their order.
        detector: Looks at the images; ``None``: they are only written.
        limit: Prompts of each task at most; the folders keep the numbers of the whole benchmark.
        note: What is to be known before any table is read.
        """
        self.entries, self.detector, self.note = list(entries), detector, note
        self.indices: dict[str, int] = {}
        counts = dict[str, int]()
        for index, entry in enumerate(self.entries):
            counts[entry["tag"]] = counts.get(entry["tag"], 0) + 1
            if limit is None or counts[entry["tag"]] <= limit:
                self.indices[entry["prompt"]] = index
        self._results: dict[str, ImageResult] | None = None
        asked = {clause["class"] for entry in self.entries for clause in entry["include"]}
        unseen = asked - set(() if detector is None else detector.classes)
        if detector is not None and unseen:
            self.note += BLIND.format(num=len(unseen), of=len(asked))

    def asked(self) -> list[Asked]:
        """The prompts, in the benchmark's order."""
        entries = [self.entries[index] for index in self.indices.values()]
        return [Asked(prompt=entry["prompt"], meta=entry, tag=entry["tag"]) for entry in entries]

    def judge(self, errands: Sequence[Errand], transcripts: Sequence[Transcript], folder: Path) -> list[Marks]:
        """Official, strict and soft; a drawing without an image is written as a white one."""
        images = GenevalFolder(folder / "images")
        if self._results is None:
            images.prepare({index: self.entries[index] for index in self.indices.values()})
            self._results = {each.filename: each for each in resume_results(folder / "geneval.jsonl")}
        new = []
        for errand, transcript in zip(errands, transcripts, strict=True):
            index, canvas = self.indices[errand.task.prompt], canvas_of(transcript)
            images.add(index, errand.sample, canvas)
            name = images.filename(index, errand.sample)
            new += [(name, self.entries[index], canvas)] if name not in self._results else []
        if self.detector is None:
            return [{}] * len(errands)
        if new:
            found = judge_images(self.detector, new)
            append_results(folder / "geneval.jsonl", found)
            self._results |= {each.filename: each for each in found}
        names = [images.filename(self.indices[errand.task.prompt], errand.sample) for errand in errands]
        return [_marks(self._results[name]) for name in names]

    def conclude(self, drawings: Sequence[Drawing], folder: Path) -> Conclusion:
        """The benchmark's own summary."""
        where = f"Images in GenEval's layout: {len(drawings)} in images/."
        if self.detector is None:
            return Conclusion(markdown=f"{where} No detector looked at them (detector=none).", record={"geneval": None})
        order = list(self.indices)
        results = sorted(resume_results(folder / "geneval.jsonl"), key=lambda each: order.index(each.prompt))
        summary = official_summary(results)
        rows = [f"| {task.tag} | {task.images} | {task.score:.4f} |" for task in summary.tasks]
        lines = ["| GenEval, official | images | score |", "|---|---:|---:|", *rows]
        lines += [f"| overall (mean of the tasks) | {summary.images} | {summary.overall:.5f} |", ""]
        lines += [
            f"Correct images {summary.image_accuracy:.4f}, correct prompts {summary.prompt_accuracy:.4f}. {where}"
        ]
        return Conclusion(note=self.note.strip(), markdown="\n".join(lines), record={"geneval": asdict(summary)})


def _marks(result: ImageResult) -> Marks:
    return {
        "official": float(result.correct),
        "strict": None if result.strict is None else float(result.strict),
        "soft": result.soft,
    }
