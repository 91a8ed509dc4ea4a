"""The paper's Table 1 of a data set, counted sample by sample and added up over chunks."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .sample import Sample, Subset
from .scene_prompts import SPLITS

PAPER: Mapping[Subset, Mapping[str, float]] = {
    Subset.MULTI_TURN: {"total": 32_012, "prompt length": 152.8, "images": 3.51, "most images": 5},
    Subset.CONFLICT: {"total": 15_201, "positive": 6_905, "negative": 8_296},
    Subset.ALIGNMENT: {"total": 15_000, "positive": 5_000, "negative": 10_000},
}
"""arXiv 2604.04746, Table 1: whoever needs a number of it takes it from here. The unit of the prompt length is not
printed; ours are words."""
NAMES = {
    "total": "samples",
    "positive": "positive",
    "negative": "negative",
    "prompt length": "average prompt length (words)",
    "images": "average images per sample",
    "most images": "most images of a sample",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What there is to count in one split of a subset."""

    total: int = 0
    positive: int = 0
    """Samples whose label is true."""
    negative: int = 0
    words: int = 0
    """Of all prompts."""
    images: int = 0
    """Of all samples; given canvases and illegal images are not among them."""
    most_images: int = 0

    def __add__(self, other: "Row") -> "Row":
        sums = {name: value + getattr(other, name) for name, value in asdict(self).items()}
        return Row(**sums | {"most_images": max(self.most_images, other.most_images)})

    @property
    def values(self) -> dict[str, float]:
        """The rows of the table by name."""
        return {
            "total": self.total,
            "positive": self.positive,
            "negative": self.negative,
            "prompt length": self.words / max(1, self.total),
            "images": self.images / max(1, self.total),
            "most images": self.most_images,
        }


@dataclass(frozen=True, slots=True)
class Tally:
    """Rows by "<subset>/<split>"; tallies of parts add up to the tally of the whole."""

    rows: Mapping[str, Row] = field(default_factory=dict)

    def __add__(self, other: "Tally") -> "Tally":
        names = [f"{subset}/{split}" for subset in Subset for split in SPLITS]
        both = {name: self.rows.get(name, Row()) + other.rows.get(name, Row()) for name in names}
        return Tally({name: row for name, row in both.items() if row.total})

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries."""
        return {name: asdict(row) for name, row in self.rows.items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Tally":
        """What ``to_json`` wrote."""
        return cls({name: Row(**row) for name, row in record.items()})


def tally(samples: Iterable[Sample]) -> Tally:
    """What there is to count in some samples."""
    rows = dict[str, Row]()
    for sample in samples:
        name, num = f"{sample.subset}/{sample.split}", len(sample.transcript.images)
        one = Row(
            total=1,
            positive=int(sample.label is True),
            negative=int(sample.label is False),
            words=len(sample.transcript.prompt.split()),
            images=num,
            most_images=num,
        )
        rows[name] = rows.get(name, Row()) + one
    return Tally(rows)


def table1(counted: Tally | Iterable[Sample], split: str = "train") -> str:
    """The paper's Table 1 as Markdown, the paper's values beside ours.

    Args:
        counted: A tally, or the samples themselves.
        split: "train" or "validation"; the paper's values stand beside the first alone.
    """
    rows = (counted if isinstance(counted, Tally) else tally(counted)).rows
    lines = ["| subset | | here | paper |", "|---|---|---:|---:|"]
    for subset in Subset:
        row = rows.get(f"{subset}/{split}")
        if row is None:
            continue
        paper = PAPER[subset] if split == "train" else {}
        for name in PAPER[subset]:
            value = row.values[name]
            theirs = _told(paper[name], name) if name in paper else ""
            lines.append(f"| {subset} | {NAMES[name]} | {_told(value, name)} | {theirs} |")
    return "\n".join(lines)


def _told(value: float, name: str) -> str:
    if name == "prompt length":
        return f"{value:.1f}"
    return f"{value:.2f}" if name == "images" else f"{value:,.0f}"
