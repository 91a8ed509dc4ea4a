"""``strokes-evaluate``: a policy on a benchmark, judged task by task, or two evaluations side by side.

Writes ``results.jsonl``, ``transcripts/``, ``metrics.json``, ``table.md`` and ``report.html`` into the run's folder,
and goes on where it stood when it is started again on that folder. ``configs/evaluate.yaml`` says what can be set.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..agents.command import check_number, run, settings_from
from ..agents.load import SHIPPED, load_policy
from ..agents.rollout import Rules, rollout
from ..envs.files import write_whole
from ..envs.protocols import Cost, Policy
from ..envs.report import write_report
from ..envs.scenes.tasks import heldout
from ..envs.transcript import Transcript
from ..rewards.scenes import SceneReward
from .conduct import Evaluation, evaluation
from .drawings import Drawing, Errand, judged
from .equal_cost import at_equal_cost, matched
from .evaluation_folder import EvaluationFolder, fingerprint
from .pairing import pair
from .progress import progress

WORDLESS = ("one-shot", "best-of-n")
"""Policies whose words are fixed: there is no plan to judge."""
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
    compare: Sequence[str] | None
    """Folders of two evaluations to compare; nothing is drawn then."""

    def __post_init__(self) -> None:
        for name, least in (("num_samples", 1), ("seed", 0), ("batch", 1), ("size", 16)):
            check_number(name, getattr(self, name), least)
        if self.size % 16:
            raise ValueError(f"Expected size to be a multiple of 16, got {self.size}.")
        check_number("limit", self.limit, 1, (int, type(None)))
        check_number("threads", self.threads, 1, (int, type(None)))
        check_number("steps", self.steps, 1, (int, type(None)))
        check_number("guidance", self.guidance, 0, (int, float, type(None)))
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
    evaluated = evaluate(settings, folder)
    _conclude(folder, "metrics", evaluated.to_markdown(), {"settings": asdict(settings), **evaluated.to_dict()})
    return True


def evaluate(settings: Settings, folder: Path) -> Evaluation:
    """Draw what is not drawn yet, chunk by chunk, judge it, and write the report.

    Args:
        settings: What to draw, and with whom.
        folder: The evaluation's folder.
    """
    chunks = _chunks(settings)
    record = {
        **asdict(settings),
        "checkpoint": fingerprint(settings.policy["path"] or SHIPPED) if "path" in settings.policy else None,
        "drawings_per_canvas": matched(settings.policy["like"], settings.steps)
        if settings.policy.get("like")
        else None,
    }
    store = EvaluationFolder(folder)
    store.check(record)
    finished = store.finished([len(chunk) for chunk in chunks])
    if todo := [k for k in range(len(chunks)) if k not in finished]:
        policy = load_policy(settings.policy, steps=settings.steps, guidance=settings.guidance, score_fn=SceneReward())
        with progress(sys.stdout, sum(map(len, chunks)), sum(map(len, finished.values()))) as bar:
            for k in todo:
                policy = at_equal_cost(policy, record["drawings_per_canvas"], chunks[k][0].task.tag)
                finished[k], transcripts = _chunk(policy, settings, k, chunks[k])
                store.add(k, finished[k], transcripts, record)
                bar.advance(len(chunks[k]), _so_far(finished))
    drawings = [drawing for k in range(len(chunks)) for drawing in finished[k]]
    _report(store, drawings, str(settings.policy["name"]))
    return evaluation(drawings)


def _chunks(settings: Settings) -> list[list[Errand]]:
    """What is to be drawn; a chunk holds drawings of one task alone, which take about as long."""
    tasks: dict[str, list[Errand]] = {}
    for task in heldout(settings.split, settings.limit):
        errands = tasks.setdefault(task.tag, [])
        errands += [Errand(task=task, sample=sample) for sample in range(settings.num_samples)]
    size = settings.batch
    return [errands[k : k + size] for errands in tasks.values() for k in range(0, len(errands), size)]


def _chunk(
    policy: Policy, settings: Settings, k: int, errands: Sequence[Errand]
) -> tuple[list[Drawing], list[Transcript]]:
    """Draw and judge one chunk."""
    begun = time.perf_counter()
    episodes = [errand.episode(settings.seed) for errand in errands]
    drawn = rollout(policy, episodes, rules=Rules(size=settings.size), threads=settings.threads)
    seconds = (time.perf_counter() - begun) / len(errands)
    is_planned = settings.policy["name"] not in WORDLESS
    drawings = [
        judged(errand, trajectory, chunk=k, seconds=seconds, is_planned=is_planned)
        for errand, trajectory in zip(errands, drawn, strict=True)
    ]
    return drawings, [trajectory.transcript for trajectory in drawn]


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
