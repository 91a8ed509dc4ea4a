"""``strokes-evaluate``: a policy on a benchmark, judged task by task, or two evaluations side by side.

Writes ``results.jsonl``, ``transcripts/``, ``metrics.json``, ``table.md`` and ``report.html`` into the run's folder,
and goes on where it stood when it is started again on that folder. ``configs/evaluate.yaml`` says what can be set.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..agents.command import check_number, run, settings_from
from ..agents.load import checkpoint_of, load_policy
from ..agents.pool import Resources
from ..agents.trajectory import Trajectory
from ..envs.files import write_whole
from ..envs.protocols import Cost, Policy
from ..envs.report import write_report
from .benchmark_settings import make_benchmark
from .benchmarks import Benchmark, Conclusion
from .conduct import Evaluation, evaluation
from .drawings import Drawing, Errand, judged
from .equal_cost import matched
from .evaluation_folder import FREE, EvaluationFolder, fingerprint
from .evaluation_workers import EvaluationWorker, draw
from .judges import chat_of, search_judge
from .pairing import pair
from .progress import progress

WORDLESS = ("one-shot", "best-of-n")
"""Policies whose words are fixed: there is no plan to judge."""
BLIND = (*WORDLESS, "planner")
"""Policies whose inspections are fixed words: nobody looked."""
SHOWN = 3
"""Drawings of each task on the report: the best and the worst ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``configs/evaluate.yaml``, composed."""

    policy: Mapping[str, Any]
    benchmark: Mapping[str, Any]
    split: str
    limit: int | None
    """Tasks per tag; ``None``: all."""
    num_samples: int
    """Drawings of each task."""
    seed: int
    """Decides all noise, together with the prompt and the number of the drawing."""
    batch: int
    """Drawings of a chunk: what advances together, and what is drawn again after a kill."""
    threads: int | None
    """Threads of torch; ``None``: as many as it takes. Equal results need equal numbers."""
    steps: int | None
    """Sampling steps per image; ``None``: the policy samples no images."""
    guidance: float | None
    """Scale of the text guidance; ``None``: the policy has none."""
    size: int
    """Side of the canvas in pixels."""
    out: str
    detector: Mapping[str, Any]
    """Who sees what is on a picture, for GenEval."""
    judge: Mapping[str, Any]
    """The server of remote judges, planners and inspectors, see ``rewards.judge_settings``."""
    workers: int
    """Ray actors that draw; 0: this process does."""
    gpus: float
    """Of each worker."""
    address: str | None
    """Of a Ray cluster; ``None``: Ray is started on this machine."""
    compare: Sequence[str] | None
    """Folders of two evaluations to compare; nothing is drawn then."""

    def __post_init__(self) -> None:
        for name, least in (("num_samples", 1), ("seed", 0), ("batch", 1), ("size", 16), ("workers", 0)):
            check_number(name, getattr(self, name), least)
        if self.size % 16:
            raise ValueError(f"Expected size to be a multiple of 16, got {self.size}.")
        check_number("limit", self.limit, 1, (int, type(None)))
        check_number("threads", self.threads, 1, (int, type(None)))
        check_number("steps", self.steps, 1, (int, type(None)))
        check_number("guidance", self.guidance, 0, (int, float, type(None)))
        check_number("gpus", self.gpus, 0, (int, float))
        if self.workers and self.threads is None:
            raise ValueError("Expected threads with workers, got none; equal results need equal numbers of them.")
        if self.compare is not None and (isinstance(self.compare, str) or len(self.compare) != 2):
            raise ValueError(f"Expected compare=[first,second], two folders of evaluations, got {self.compare!r}.")


def main() -> int:
    """The console script; returns the exit code, 0 only if there is a table."""
    return run(command, "evaluate")


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
    kept["judge"] = {name: value for name, value in settings.judge.items() if f"judge.{name}" not in FREE}
    _conclude(folder, "metrics", markdown, {"settings": kept, **evaluated.to_dict(), **(more.record or {})})
    return True


def evaluate(settings: Settings, folder: Path) -> tuple[Evaluation, Conclusion]:
    """Draw what is not drawn yet, chunk by chunk, judge it, and write the report.

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
    chunks = _chunks(benchmark, settings)
    record = {
        **asdict(settings),
        "checkpoint": fingerprint(checkpoint_of(settings.policy)) if "path" in settings.policy else None,
        "drawings_per_canvas": matched(settings.policy["like"], settings.steps)
        if settings.policy.get("like")
        else None,
    }
    store = EvaluationFolder(folder)
    store.check(record)
    finished = store.finished([len(chunk) for chunk in chunks])
    _judge_again(store, benchmark, chunks, finished)
    if todo := [k for k in range(len(chunks)) if k not in finished]:
        make_worker = partial(
            EvaluationWorker, _make_policy(settings), settings.size, settings.threads, record["drawings_per_canvas"]
        )
        wanted = [([errand.episode(settings.seed) for errand in chunks[k]], chunks[k][0].task.tag) for k in todo]
        resources = Resources(num_cpus=settings.threads or 1, num_gpus=settings.gpus)
        drawn = draw(make_worker, wanted, workers=settings.workers, resources=resources, address=settings.address)
        with progress(sys.stdout, sum(map(len, chunks)), sum(map(len, finished.values()))) as bar, closing(drawn):
            for k in todo:
                begun = time.perf_counter()
                trajectories = next(drawn)
                seconds = (time.perf_counter() - begun) / len(chunks[k])
                finished[k] = _judged(benchmark, settings, k, chunks[k], trajectories, folder, seconds)
                store.add(k, finished[k], [trajectory.transcript for trajectory in trajectories], record)
                bar.advance(len(chunks[k]), _so_far(finished))
    drawings = [drawing for k in range(len(chunks)) for drawing in finished[k]]
    _report(store, drawings, str(settings.policy["name"]))
    return evaluation(drawings), benchmark.conclude(drawings, folder)


def _chunks(benchmark: Benchmark, settings: Settings) -> list[list[Errand]]:
    """What is to be drawn; a chunk holds drawings of one task alone, which take about as long."""
    tasks: dict[str, list[Errand]] = {}
    for task in benchmark.asked():
        errands = tasks.setdefault(task.tag, [])
        errands += [Errand(task=task, sample=sample) for sample in range(settings.num_samples)]
    size = settings.batch
    return [errands[k : k + size] for errands in tasks.values() for k in range(0, len(errands), size)]


def _make_policy(settings: Settings) -> Callable[[], Policy]:
    """What loads the policy, in whichever process."""
    return partial(
        load_policy,
        settings.policy,
        steps=settings.steps,
        guidance=settings.guidance,
        score_fn=search_judge(settings.policy, settings.judge),
        chat=chat_of(settings.policy, settings.judge),
    )


def _judged(
    benchmark: Benchmark,
    settings: Settings,
    k: int,
    errands: Sequence[Errand],
    trajectories: Sequence[Trajectory],
    folder: Path,
    seconds: float,
) -> list[Drawing]:
    """Judge one chunk."""
    marks = benchmark.judge(errands, [trajectory.transcript for trajectory in trajectories], folder)
    name = settings.policy["name"]
    said = {"is_planned": name not in WORDLESS, "is_inspected": name not in BLIND}
    return [
        judged(errand, trajectory, chunk=k, seconds=seconds, marks=given, **said)
        for errand, trajectory, given in zip(errands, trajectories, marks, strict=True)
    ]


def _judge_again(
    store: EvaluationFolder,
    benchmark: Benchmark,
    chunks: Sequence[Sequence[Errand]],
    finished: dict[int, list[Drawing]],
) -> None:
    """Ask once more about drawings of finished chunks that a judge gave no verdict on; nothing is drawn again."""
    for k, drawings in finished.items():
        lacking = [i for i, drawing in enumerate(drawings) if drawing.lacks_marks]
        if not lacking:
            continue
        transcripts = store.transcripts([drawings[i] for i in lacking])
        marks = benchmark.judge([chunks[k][i] for i in lacking], transcripts, store.path)
        for i, given in zip(lacking, marks, strict=True):
            drawings[i] = drawings[i].marked(given)
        store.rewrite(finished)


def _so_far(finished: Mapping[int, Sequence[Drawing]]) -> str:
    strict = [drawing.strict for group in finished.values() for drawing in group if drawing.strict is not None]
    return f"strict {sum(strict) / len(strict):.3f}" if strict else "not judged"


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
