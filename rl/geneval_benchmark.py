"""GenEval as a benchmark: images in the official layout, official results, and our intervals beside the official table.

images/00000/metadata.jsonl, images/00000/samples/0000.png …    what the benchmark's own scripts read
geneval.jsonl                                                   results as those scripts write them
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..envs.files import write_whole
from ..envs.transcript import Transcript
from ..rewards.geneval import Detector
from ..rewards.geneval_folder import GenevalFolder, judge_folder
from ..rewards.geneval_results import ImageResult, append_results, judge_images
from ..rewards.geneval_summary import official_summary
from .benchmarks import Conclusion, Marked, canvas_of, occurrences
from .drawings import SEEDS, Asked, Drawing, Errand

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
        self.marks = () if detector is None else ("objects", "official", "strict", "soft")
        places = occurrences([entry["prompt"] for entry in self.entries])
        self.indices: dict[tuple[str, int], int] = {}
        """By prompt, and which of the entries with that prompt."""
        counts = Counter[str]()
        for index, (entry, seed) in enumerate(zip(self.entries, places, strict=True)):
            counts[entry["tag"]] += 1
            if limit is None or counts[entry["tag"]] <= limit:
                self.indices[entry["prompt"], seed] = index
        asked = {clause["class"] for entry in self.entries for clause in entry["include"]}
        unseen = asked - set(() if detector is None else detector.classes)
        if detector is not None and unseen:
            self.note += BLIND.format(num=len(unseen), of=len(asked))

    def asked(self) -> list[Asked]:
        """The prompts, in the benchmark's order."""
        return [
            Asked(prompt=prompt, meta=self.entries[index], tag=self.entries[index]["tag"], seed=seed)
            for (prompt, seed), index in self.indices.items()
        ]

    def judge(self, errands: Sequence[Errand], transcripts: Sequence[Transcript], folder: Path) -> list[Marked]:
        """Official, strict and soft, and how many objects were seen."""
        assert self.detector is not None, "there are no marks without a detector"
        items = []
        for errand, transcript in zip(errands, transcripts, strict=True):
            index = self.indices[errand.task.prompt, errand.task.seed]
            name = GenevalFolder.filename(index, errand.sample)
            items.append((name, self.entries[index], canvas_of(transcript)))
        results = judge_images(self.detector, items)
        append_results(folder / "geneval.jsonl", results)
        return [Marked(_marks(result)) for result in results]

    def keep(self, errands: Sequence[Errand], transcripts: Sequence[Transcript], folder: Path) -> None:
        """Write pictures in the official layout, white ones where nothing was drawn."""
        images = GenevalFolder(folder / "images")
        for errand, transcript in zip(errands, transcripts, strict=True):
            index = self.indices[errand.task.prompt, errand.task.seed]
            images.prepare({index: self.entries[index]})
            images.add(index, errand.sample, canvas_of(transcript))

    def conclude(self, drawings: Sequence[Drawing], folder: Path) -> Conclusion:
        """The benchmark's own summary."""
        where = f"Images in GenEval's layout: {len(drawings)} in images/."
        if self.detector is None:
            return Conclusion(markdown=f"{where} No detector looked at them (detector=none).", record={"geneval": None})
        # whatever the file has lost is judged again
        judged = judge_folder(folder / "images", self.detector, folder / "geneval.jsonl")
        found = {each.filename: each for each in judged}
        results = [found[self._name(drawing)] for drawing in drawings]
        write_whole(folder / "geneval.jsonl", "".join(result.to_line() for result in results))
        summary = official_summary(results)
        rows = [f"| {task.tag} | {task.images} | {task.score:.4f} |" for task in summary.tasks]
        lines = ["| GenEval, official | images | score |", "|---|---:|---:|", *rows]
        lines += [f"| overall (mean of the tasks) | {summary.images} | {summary.overall:.5f} |", ""]
        shares = f"Correct images {summary.image_accuracy:.4f}, correct prompts {summary.prompt_accuracy:.4f}."
        lines += [f"{shares} {where}"]
        return Conclusion(note=self.note.strip(), markdown="\n".join(lines), record={"geneval": asdict(summary)})

    def _name(self, drawing: Drawing) -> str:
        sample, seed = divmod(drawing.seed, SEEDS)
        return GenevalFolder.filename(self.indices[drawing.prompt_id, seed], sample)


def _marks(result: ImageResult) -> dict[str, float | None]:
    return {
        "objects": float(sum(map(len, json.loads(result.details).values()))),
        "official": float(result.correct),
        "strict": None if result.strict is None else float(result.strict),
        "soft": result.soft,
    }
