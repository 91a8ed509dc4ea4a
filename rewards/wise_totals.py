"""Totals of WISE: means of categories and the overall score, of our own scores and of anybody's files.

``total`` counts scores files exactly as WISE's calculators do (``tests/golden/wise``), their lenience included: every
usable line counts, an id that occurs twice counts twice, and an id whose score cannot be used is there all the same.
``summarise_wise`` makes the table of an evaluation: there nothing is skipped in silence.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .interval import Interval, intervals
from .wise import AGGREGATES, CATEGORIES, WiseItem, WiseProtocol
from .wise_scores import WiseScore

PARTS: Mapping[str, tuple[str, ...]] = {
    "all": CATEGORIES,
    "culture": ("CULTURE",),
    "space-time": ("TIME", "SPACE"),
    "science": ("BIOLOGY", "PHYSICS", "CHEMISTRY"),
}
"""The benchmark and its three files, under the calculators' names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a scores file holds."""

    values: tuple[tuple[str, float], ...]
    """Category and WiScore of each line that counts."""
    present: frozenset[int]
    """Ids that occur, whether or not their score can be used."""
    skipped: tuple[int, ...]
    """Numbers, from 1, of the lines that do not count."""


def tally(text: str, protocol: WiseProtocol) -> Tally | None:
    """Count a scores file; ``None``: it cannot be used.

    That is where a line is JSON but not an object, is nested too deep, or holds a number that is too long. Lines end
    where Python's text files end them.
    """
    values, present, skipped = list[tuple[str, float]](), set[int](), list[int]()
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            skipped.append(number)
            continue
        except (ValueError, RecursionError):
            return None
        if not isinstance(record, dict):
            return None
        prompt_id, marks = record.get("prompt_id"), [record.get(name) for name in protocol.weights]
        category = None
        if isinstance(prompt_id, int):
            present.add(prompt_id)
            category = protocol.category(prompt_id)
        usable = isinstance(prompt_id, int) and all(isinstance(mark, (int, float)) for mark in marks)
        if not usable or (protocol.is_binary and any(mark not in (0, protocol.top) for mark in marks)):
            skipped.append(number)
            continue
        try:
            wiscore = protocol.wiscore(record)
        except OverflowError:
            return None
        if category is None:
            skipped.append(number)
        else:
            values.append((category, wiscore))
    return Tally(values=tuple(values), present=frozenset(present), skipped=tuple(skipped))


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What scores files come to together."""

    files: tuple[Tally | None, ...]
    """One for each file, in order; ``None``: not used."""
    present: frozenset[int]
    """Ids that occur in the files used."""
    missing: tuple[int, ...]
    """Ids that the whole benchmark lacks; empty where a part was asked for."""
    means: Mapping[str, float] | None
    """WiScore of each category with a usable line; ``None``: nothing may be said."""
    counts: Mapping[str, int] | None
    """Usable lines of each category."""
    overall: float | None
    """Of the whole benchmark and only if each category has a usable line."""


def total(texts: Sequence[str], protocol: WiseProtocol, part: str = "all", aggregate: str = AGGREGATES[0]) -> Total:
    """Count scores files as the official calculators do.

    Args:
        texts: Contents of the files.
        protocol: Whose scores they are.
        part: One of ``PARTS``. "all" gives nothing unless the files hold every id between them; of another part a
            single file must hold every id to be used (several are not checked), and there is no overall score.
        aggregate: One of ``AGGREGATES``.
    """
    if part not in PARTS:
        raise ValueError(f"Expected part among {', '.join(PARTS)}, got {part!r}.")
    tallies = [tally(text, protocol) for text in texts]
    ids = [k for k in range(1, protocol.last + 1) if protocol.category(k) in PARTS[part]]
    if part != "all" and len(tallies) == 1 and tallies[0] is not None and not tallies[0].present.issuperset(ids):
        tallies = [None]
    used = [each for each in tallies if each is not None]
    present = frozenset(k for each in used for k in each.present)
    missing = tuple(k for k in ids if part == "all" and k not in present)
    means: dict[str, float] = {}
    counts: dict[str, int] = {}
    if used and not missing:
        groups = _grouped([pair for each in used for pair in each.values])
        means = {category: sum(values) / len(values) for category, values in groups.items()}
        counts = {category: len(values) for category, values in groups.items()}
    return Total(
        files=tuple(tallies),
        present=present,
        missing=missing,
        means=means if used and not missing else None,
        counts=counts if used and not missing else None,
        overall=overall(means, protocol, aggregate) if part == "all" else None,
    )


def overall(means: Mapping[str, float], protocol: WiseProtocol, aggregate: str = AGGREGATES[0]) -> float | None:
    """The overall score of category means; ``None`` unless all six are there.

    Args:
        means: By category.
        protocol: Says what the categories weigh officially.
        aggregate: One of ``AGGREGATES``.
    """
    if aggregate not in AGGREGATES:
        raise ValueError(f"Expected aggregate among {', '.join(AGGREGATES)}, got {aggregate!r}.")
    if any(category not in means for category in CATEGORIES):
        return None
    if aggregate == "bagel_unweighted":
        return sum(means[category] for category in CATEGORIES) / len(CATEGORIES)
    return sum(protocol.shares[category] * means[category] for category in CATEGORIES)


def _grouped(values: Sequence[tuple[str, float]]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for category, value in values:
        groups.setdefault(category, []).append(value)
    return groups


@dataclass(frozen=True, slots=True, kw_only=True)
class WiseRow:
    """One category."""

    category: str
    prompts: int
    """Prompts asked for."""
    images: int
    """Images with a score."""
    wiscore: Interval | None
    """``None``: no image has a score."""
    gated: Interval | None
    """WiScore with the other marks counted only as far as the image is consistent."""
    marks: Mapping[str, float]
    """Mean of each mark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WiseSummary:
    """An evaluation in a table."""

    protocol: str
    rows: tuple[WiseRow, ...]
    """Categories that were asked for, in WISE's order."""
    overall: Mapping[str, float | None]
    """By ``AGGREGATES``; ``None`` where a category was not asked for or an image has no score."""
    missing: Mapping[int, str]
    """Ids of prompts without a score, and why."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        rows = []
        for row in self.rows:
            named = {name: getattr(row, name) for name in ("wiscore", "gated")}
            plain = {name: None if value is None else Interval(*value)._asdict() for name, value in named.items()}
            rows.append({**asdict(row), **plain})
        missing = {str(prompt_id): why for prompt_id, why in self.missing.items()}
        return {"protocol": self.protocol, "rows": rows, "overall": dict(self.overall), "missing": missing}

    def to_markdown(self) -> str:
        """The table, then the overall scores under their names."""
        names = [name for name in self.rows[0].marks] if self.rows and len(self.rows[0].marks) > 1 else []
        heads = ["category", "prompts", "images", "WiScore", *(["gated", *names] if names else [])]
        lines = [f"| {' | '.join(heads)} |", f"|---|---:|---:|---{'|---' * (len(heads) - 4)}|"]
        for row in self.rows:
            wiscore, gated = ("not judged" if value is None else str(value) for value in (row.wiscore, row.gated))
            more = [gated, *(f"{row.marks[name]:.2f}" if row.images else "-" for name in names)] if names else []
            lines.append(f"| {' | '.join([row.category, str(row.prompts), str(row.images), wiscore, *more])} |")
        said = ["not given" if value is None else f"{value:.3f}" for value in self.overall.values()]
        totals = "; ".join(f"{name} {value}" for name, value in zip(self.overall, said, strict=True))
        lines += ["", f"Overall WiScore ({self.protocol}): {totals}."]
        if self.missing:
            ids = list(map(str, self.missing))
            shown = ", ".join(ids[:20]) + (", …" if len(ids) > 20 else "")
            lines += ["", f"Without a score, so that there is no overall one: {len(ids)} prompts ({shown})."]
        return "\n".join(lines)


def summarise_wise(
    protocol: WiseProtocol, items: Sequence[WiseItem], scores: Sequence[WiseScore], *, resamples: int = 2000
) -> WiseSummary:
    """The table of an evaluation.

    Args:
        protocol: Whose marks the scores hold.
        items: What was asked for.
        scores: Of the items; a prompt may have several, the images of which are one cluster of the intervals.
        resamples: Bootstrap draws, see ``intervals``.
    """
    asked = {name: {item.prompt_id for item in items if item.category == name} for name in CATEGORIES}
    groups = {name: [s for s in scores if s.category == name] for name, ids in asked.items() if ids}
    missing = _missing(items, scores)
    wiscore, gated = (
        intervals({name: [(str(s.prompt_id), value(s)) for s in group] for name, group in groups.items()}, resamples)
        for value in (lambda s: s.wiscore, lambda s: s.gated)
    )
    rows = []
    for name, group in groups.items():
        judged = [score.marks for score in group if score.marks is not None]
        rows.append(
            WiseRow(
                category=name,
                prompts=len(asked[name]),
                images=len(judged),
                wiscore=wiscore[name],
                gated=gated[name],
                marks={mark: sum(m[mark] for m in judged) / max(len(judged), 1) for mark in protocol.weights},
            )
        )
    means = {row.category: row.wiscore.mean for row in rows if row.wiscore is not None}
    totals = {name: None if missing else overall(means, protocol, name) for name in AGGREGATES}
    return WiseSummary(protocol=protocol.name, rows=tuple(rows), overall=totals, missing=missing)


def _missing(items: Sequence[WiseItem], scores: Sequence[WiseScore]) -> dict[int, str]:
    """Ids of prompts with an image without a score, or with no image, and why."""
    failed = {score.prompt_id: score.error for score in scores if score.wiscore is None}
    judged = {score.prompt_id for score in scores}
    failed |= {item.prompt_id: "not judged" for item in items if item.prompt_id not in judged}
    return dict(sorted(failed.items()))
