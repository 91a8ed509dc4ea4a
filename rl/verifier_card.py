"""The card of a verifier's data: where the examples come from, how many there are of each kind, what they took."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .verifier_labels import PAPER, Count, Kind

SPLITS = ("train", "validation", "test")
SPENT = "spent.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the data cost."""

    drawings: int
    """Of all painters, those set aside included."""
    verdicts: int
    """Questions put to the judge."""
    looks: int
    """Different images among the examples that are learnt from."""
    seconds: float
    """Wall time of drawing and judging."""

    @property
    def told(self) -> str:
        """What does not differ from one run to the next."""
        return f"{self.drawings} drawings, {self.verdicts} verdicts; {self.looks} different images to learn from"

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Of the data in a folder; ``None``: it does not say."""
        path = folder / SPENT
        return cls(**json.loads(path.read_text())) if path.exists() else None


def check_both(counts: Mapping[Kind, Count]) -> None:
    """``ValueError`` unless there are both answers to every question; that of best-of-N' is that of outcomes."""
    for kind, count in counts.items():
        if kind != "best_of" and count.wanted and not (count.yes and count.no):
            raise ValueError(
                f"Expected examples of {kind} with both answers, got {count.yes} yes and {count.no} no: whoever learns "
                "from one answer alone learns to give it. They are taken in pairs of one prompt and painter: draw more "
                "in another folder (drawings.members, at least 2; drawings.prompts), harder or easier prompts, or look "
                "earlier (drawings.flow_steps)."
            )


def card(about: Mapping[str, Any], counts: Mapping[str, Mapping[Kind, Count]], num_found: int) -> str:
    """The card, as Markdown with the header that ``datasets.load_dataset`` reads."""
    header = ["---", "configs:", "- config_name: default", "  data_files:"]
    header += [f"  - {{split: {split}, path: {split}.parquet}}" for split in SPLITS]
    told = [f"* {name}: {value}" for name, value in about.items()]
    rows = ["| part | kind | wanted | got | yes | no | the paper's |", "|---|---|--:|--:|--:|--:|--:|"]
    short = []
    for split, of_split in counts.items():
        for kind, (wanted, yes, no) in of_split.items():
            rows.append(f"| {split} | {kind} | {wanted} | {yes + no} | {yes} | {no} | {PAPER[kind]} |")
            if yes + no < (wanted - wanted % 2 if split == "train" else wanted):  # pairs are learnt from
                short.append(f"{split}/{kind} ({yes} yes, {no} no of {wanted})")
    lacking = f"Not as many as wanted, for want of drawings: {', '.join(short)}." if short else ""
    chosen_of = f"Chosen out of {num_found} labels; to learn from, as many yes as no of every prompt and painter."
    title = "# What a verifier of images on their way learns from"
    lines = [*header, "---", "", title, "", *told, "", *rows, "", chosen_of, lacking]
    return "\n".join(lines).rstrip() + "\n"
