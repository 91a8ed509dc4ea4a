"""``strokes-evaluate``: a policy on a benchmark, judged task by task, or two evaluations side by side.

Writes ``results.jsonl``, ``transcripts/``, ``metrics.json``, ``table.md`` and ``report.html`` into the run's folder,
and goes on where it stood when it is started again on that folder. ``configs/evaluate.yaml`` says what can be set.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..agents.command import run as run_command
from ..agents.command import settings_from
from ..envs.files import write_whole
from ..envs.protocols import Cost
from ..envs.report import write_report
from .benchmark_settings import make_benchmark
from .benchmarks import Conclusion
from .conduct import Evaluation, evaluation
from .drawings import Drawing
from .evaluation_folder import FREE, EvaluationFolder
from .evaluation_run import EvaluationRun
from .evaluation_settings import Settings
from .pairing import pair

SHOWN = 3
"""Drawings of each task on the report: the best and the worst ones."""


def main() -> int:
    """The console script; returns the exit code, 0 only if there is a table."""
    return run_command(command, "evaluate")


def command(config: Any, folder: Path) -> bool:
    """Evaluate or compare as ``config`` says; everything goes into ``folder``."""
    settings = settings_from(config, Settings, "evaluate")
    if settings.compare is not None:
        compared = pair(*map(str, settings.compare))
        _conclude(folder, "compare", compared.to_markdown(), compared.to_dict())
        return True
    evaluated, more = evaluate(settings, folder)
    markdown = "\n\n".join(part for part in (more.note, evaluated.to_markdown(), more.markdown) if part)
    kept = {name: value for name, value in asdict(settings).items() if name not in FREE}
    for group in ("judge", "detector"):
        kept[group] = {name: value for name, value in kept[group].items() if f"{group}.{name}" not in FREE}
    _conclude(folder, "metrics", markdown, {"settings": kept, **evaluated.to_dict(), **(more.record or {})})
    return True


def evaluate(settings: Settings, folder: Path) -> tuple[Evaluation, Conclusion]:
    """Draw what is not drawn yet, judge it, and write the report.

    Args:
        settings: What to draw, and with whom.
        folder: The evaluation's folder.
    """
    benchmark = make_benchmark(
        settings.benchmark,
        settings.split,
        settings.limit,
        judge=settings.judge,
        detector=settings.detector,
        policy=settings.policy,
    )
    run = EvaluationRun(settings, benchmark, folder)
    drawings = run.complete()
    _report(run.store, drawings, str(settings.policy["name"]))
    return evaluation(drawings), benchmark.conclude(drawings, folder)


def _report(store: EvaluationFolder, drawings: Sequence[Drawing], policy: str) -> None:
    """The page: of each task the best drawing and the worst ones."""
    tasks: dict[str, list[Drawing]] = {}
    for drawing in sorted(drawings, key=lambda d: -1.0 if d.soft is None else d.soft, reverse=True):
        tasks.setdefault(drawing.task, []).append(drawing)
    shown = [d for group in tasks.values() for d in (group[:1] + group[1:][1 - SHOWN :])]
    costs = [Cost(steps=d.steps, nfe=d.nfe, tokens=d.tokens, seconds=d.seconds) for d in shown]
    title = f"{len(shown)} of {len(drawings)} drawings: the best and the worst of each task"
    write_report(store.transcripts(shown), store.path / "report.html", title=title, policy=policy, costs=costs)


def _conclude(folder: Path, name: str, markdown: str, record: Mapping[str, Any]) -> None:
    """Write a table as text and as data, and show it."""
    write_whole(folder / "table.md", markdown + "\n")
    write_whole(folder / f"{name}.json", json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    print(f"\n{markdown}\n\nwritten to {folder.absolute()}")


if __name__ == "__main__":
    sys.exit(main())
