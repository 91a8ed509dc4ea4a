"""Tables of an evaluation: per task, official and strict, with intervals clustered by prompt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .interval import OVERALL, Interval, intervals

METRICS = ("official", "strict", "soft")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One drawing, judged."""

    task: str
    """Tag of the task: "single_object", "position" …"""
    prompt_id: str
    """What identifies the prompt: its drawings are one cluster."""
    seed: int = 0
    """Distinguishes drawings of one prompt."""
    official: float | None = None
    """GenEval's rule, 0 or 1; ``None``: not judged."""
    strict: float | None = None
    """Exactly what was asked for, 0 or 1."""
    soft: float | None = None
    """Share of atomic checks, in [0, 1]."""
    images: int = 0
    """Images drawn."""
    steps: int = 0
    """Sampling steps spent."""
    inspections: tuple[tuple[bool, bool], ...] = ()
    """For each judged inspection: whether it reported a fault, and whether there was one."""
    refinements: tuple[float, ...] = ()
    """For each judged refinement: by how much it improved the canvas, in [-1, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One task."""

    task: str
    prompts: int
    drawings: int
    unjudged: int
    """Drawings without a verdict; they are in no mean but those of images and steps."""
    official: Interval | None
    strict: Interval | None
    soft: Interval | None
    images: float
    """Mean images per drawing."""
    steps: float
    """Mean sampling steps per drawing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspections:
    """Reported faults against true ones."""

    judged: int
    faults: int
    """Inspections of something faulty."""
    precision: float | None
    """Share of reported faults that were there; ``None`` where none was reported."""
    recall: float | None
    """Share of faults that were reported; ``None`` where there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinements:
    """What refinements did; shares sum to 1."""

    judged: int
    helped: float | None
    hurt: float | None
    unchanged: float | None
    mean: float | None
    """Mean improvement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An evaluation in a table."""

    rows: tuple[Row, ...]
    """Tasks in order of appearance, then "overall"."""
    inspections: Inspections
    refinements: Refinements

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain = asdict(self)
        for row in plain["rows"]:
            row |= {name: None if row[name] is None else Interval(*row[name])._asdict() for name in METRICS}
        return plain

    def to_markdown(self) -> str:
        """The table, then a line each on inspections and refinements."""
        lines = [
            "| task | prompts | drawings | official | strict | soft | images | steps |",
            "|---|---:|---:|---|---|---|---:|---:|",
        ]
        for row in self.rows:
            marks = " | ".join("not judged" if m is None else str(m) for m in (row.official, row.strict, row.soft))
            lines.append(
                f"| {row.task} | {row.prompts} | {row.drawings} | {marks} | {row.images:.2f} | {row.steps:.1f} |"
            )
        if self.rows[-1].unjudged:
            lines += ["", f"Not judged: {self.rows[-1].unjudged} drawings."]
        seen, done = self.inspections, self.refinements
        lines += [
            "",
            f"Inspections: {seen.judged} judged, {seen.faults} of something faulty; "
            f"precision {_share(seen.precision)}, recall {_share(seen.recall)}.",
            f"Refinements: {done.judged} judged; helped {_share(done.helped)}, hurt {_share(done.hurt)}, "
            f"unchanged {_share(done.unchanged)}.",
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One task of a comparison."""

    task: str
    pairs: int
    prompts: int
    difference: Interval
    """First minus second, over pairs of drawings of the same prompt and seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two evaluations of the same prompts and seeds."""

    metric: str
    rows: tuple[Difference, ...]
    """Tasks in order of appearance, then "overall"."""
    unpaired: int
    """Drawings of either side without a judged partner."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain = asdict(self)
        for row in plain["rows"]:
            row["difference"] = Interval(*row["difference"])._asdict()
        return plain

    def to_markdown(self) -> str:
        """The table of differences."""
        lines = [f"| task | pairs | prompts | {self.metric}, first minus second |", "|---|---:|---:|---|"]
        lines += [f"| {row.task} | {row.pairs} | {row.prompts} | {row.difference} |" for row in self.rows]
        if self.unpaired:
            lines += ["", f"Without a judged partner: {self.unpaired} drawings."]
        return "\n".join(lines)


def summarise(results: Sequence[Result], *, resamples: int = 2000, seed: int = 0) -> Summary:
    """The table of an evaluation.

    Args:
        results: At least one drawing; no two of the same task, prompt and seed.
        resamples: Bootstrap draws, see ``intervals``.
        seed: Of the bootstrap alone.
    """
    tasks = _by_task(results)
    values: dict[str, dict[str, Interval | None]] = {task: {} for task in (*tasks, OVERALL)}
    for metric in METRICS:
        read = {task: [(r.prompt_id, getattr(r, metric)) for r in group] for task, group in tasks.items()}
        for task, interval in intervals(read, resamples, seed).items():
            values[task][metric] = interval
    rows = [_row(task, group, values[task]) for task, group in tasks.items()]
    whole = _row(OVERALL, results, values[OVERALL], prompts=sum(row.prompts for row in rows))
    return Summary(rows=(*rows, whole), inspections=_inspections(results), refinements=_refinements(results))


def compare(
    first: Sequence[Result], second: Sequence[Result], *, metric: str = "strict", resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Paired differences of two evaluations, matched by task, prompt and seed.

    Raises:
        ValueError: The metric is unknown, or no drawing of the two has a judged partner.
    """
    if metric not in METRICS:
        raise ValueError(f"Expected a metric among {', '.join(METRICS)}, got {metric!r}.")
    left, right = (_keyed(_by_task(side), metric) for side in (first, second))
    pairs: dict[str, list[tuple[str, float | None]]] = {}
    for task, prompt, number in left:
        if (task, prompt, number) in right:
            key = (task, prompt, number)
            pairs.setdefault(task, []).append((prompt, left[key] - right[key]))
    if not pairs:
        raise ValueError("Expected two evaluations with prompts and seeds in common, got none that both judged.")
    rows = []
    for task, difference in intervals(pairs, resamples, seed).items():
        groups = list(pairs.values()) if task == OVERALL else [pairs[task]]
        assert difference is not None, "pairs have values"
        num_pairs, prompts = sum(map(len, groups)), sum(len({prompt for prompt, _ in group}) for group in groups)
        rows.append(Difference(task=task, pairs=num_pairs, prompts=prompts, difference=difference))
    matched = sum(map(len, pairs.values()))
    return Comparison(metric=metric, rows=tuple(rows), unpaired=len(first) + len(second) - 2 * matched)


def _keyed(tasks: Mapping[str, Sequence[Result]], metric: str) -> dict[tuple[str, str, int], float]:
    results = [r for group in tasks.values() for r in group if getattr(r, metric) is not None]
    return {(r.task, r.prompt_id, r.seed): float(getattr(r, metric)) for r in results}


def _by_task(results: Sequence[Result]) -> dict[str, list[Result]]:
    if not results:
        raise ValueError("Expected at least one result, got none.")
    tasks: dict[str, list[Result]] = {}
    known = set()
    for result in results:
        key = (result.task, result.prompt_id, result.seed)
        if key in known:
            raise ValueError(f"Expected one drawing of a task, prompt and seed, got two of {key!r}.")
        if result.task == OVERALL:
            raise ValueError(f"Expected a task by any other name than {OVERALL!r}.")
        known.add(key)
        tasks.setdefault(result.task, []).append(result)
    return tasks


def _row(task: str, group: Sequence[Result], values: Mapping[str, Interval | None], prompts: int | None = None) -> Row:
    return Row(
        task=task,
        prompts=len({r.prompt_id for r in group}) if prompts is None else prompts,
        drawings=len(group),
        unjudged=sum(r.official is None for r in group),
        official=values["official"],
        strict=values["strict"],
        soft=values["soft"],
        images=_mean([r.images for r in group]) or 0.0,
        steps=_mean([r.steps for r in group]) or 0.0,
    )


def _inspections(results: Sequence[Result]) -> Inspections:
    pairs = [pair for r in results for pair in r.inspections]
    both = sum(said and fault for said, fault in pairs)
    said, faults = sum(s for s, _ in pairs), sum(f for _, f in pairs)
    return Inspections(
        judged=len(pairs),
        faults=faults,
        precision=both / said if said else None,
        recall=both / faults if faults else None,
    )


def _refinements(results: Sequence[Result]) -> Refinements:
    changes = [change for r in results for change in r.refinements]

    def share(test: Callable[[float], bool]) -> float | None:
        return _mean([test(change) for change in changes])

    return Refinements(
        judged=len(changes),
        helped=share(lambda change: change > 0),
        hurt=share(lambda change: change < 0),
        unchanged=share(lambda change: change == 0),
        mean=_mean(changes),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
