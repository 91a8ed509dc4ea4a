"""EvaluationRun: the drawings of an evaluation, chunk by chunk: drawn, written down, judged.

A chunk's drawings are written before anybody is asked about them, and once more with the marks that they got. So
whatever stops a run, a judge that is out of reach among others, nothing that was drawn is lost or drawn twice, and what
has no marks yet is asked about when the run goes on.
"""

import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ..agents.load import checkpoint_of, fingerprint, load_policy
from ..agents.pool import Resources
from ..agents.rollout import Rules
from ..agents.searches import SEARCHES
from ..agents.trajectory import Trajectory
from ..envs.protocols import Policy
from ..envs.stages import Grammar
from .benchmarks import Benchmark
from .drawings import Drawing, Errand, judged
from .equal_cost import matched
from .evaluation_folder import EvaluationFolder
from .evaluation_settings import Settings
from .evaluation_workers import EvaluationWorker, draw
from .judges import chat_of, search_judge, search_verifier
from .progress import progress

WORDLESS = ("one-shot", "flux")
"""Policies whose words are fixed: there is no plan to judge."""


class EvaluationRun:
    """One evaluation in its folder."""

    def __init__(self, settings: Settings, benchmark: Benchmark, folder: Path) -> None:
        """Look into the folder; nothing is written yet.

        Args:
            settings: What to draw, and with whom.
            benchmark: What is asked for, and who judges.
            folder: The evaluation's folder.

        Raises:
            ValueError: The folder holds an evaluation with other settings.
        """
        policy = settings.policy
        self.settings, self.benchmark = settings, benchmark
        self.chunks = _chunks(benchmark, settings)
        self.record = {
            **asdict(settings),
            "checkpoint": fingerprint(checkpoint_of(policy)) if "path" in policy else None,
            "drawings_per_canvas": _drawings_per_canvas(settings),
            **verifier_fingerprints(policy),
        }
        self.store = EvaluationFolder(folder)
        self.store.check(self.record)
        self.finished = self.store.finished([len(chunk) for chunk in self.chunks])
        self._errors: set[str] = set()

    def complete(self) -> list[Drawing]:
        """Judge what has no marks yet, draw what is missing, and give all drawings in the order of the benchmark."""
        for k in self.finished:
            self._judge(k)
        todo = [k for k in range(len(self.chunks)) if k not in self.finished]
        if todo:
            self._draw(todo)
        return [drawing for k in range(len(self.chunks)) for drawing in self.finished[k]]

    def _draw(self, todo: Sequence[int]) -> None:
        done = sum(map(len, self.finished.values()))
        drawn = self._drawn(todo)
        with progress(sys.stdout, sum(map(len, self.chunks)), done) as bar, closing(drawn):
            for k in todo:
                begun = time.perf_counter()
                trajectories = next(drawn)
                seconds = (time.perf_counter() - begun) / len(self.chunks[k])
                self.finished[k] = self._noted(k, trajectories, seconds)
                transcripts = [each.transcript for each in trajectories]
                self.benchmark.keep(self.chunks[k], transcripts, self.store.path)
                self.store.add(k, self.finished[k], transcripts, self.record)
                self._judge(k)
                bar.advance(len(self.chunks[k]), _so_far(self.finished))

    def _drawn(self, todo: Sequence[int]) -> Generator[list[Trajectory], None, None]:
        """The trajectories of each chunk, as they are drawn."""
        settings = self.settings
        make_worker = partial(
            EvaluationWorker,
            _make_policy(settings),
            Rules(size=settings.size, grammar=Grammar(heeds_refine=settings.heeds_refine)),
            settings.threads,
            self.record["drawings_per_canvas"],
        )
        wanted = [
            ([errand.episode(settings.seed) for errand in self.chunks[k]], self.chunks[k][0].task.tag) for k in todo
        ]
        resources = Resources(num_cpus=settings.threads or 1, num_gpus=settings.gpus)
        return draw(make_worker, wanted, workers=settings.workers, resources=resources, address=settings.address)

    def _noted(self, k: int, trajectories: Sequence[Trajectory], seconds: float) -> list[Drawing]:
        """A chunk as the exact world sees it; the benchmark's marks are still to come."""
        policy, pending = self.settings.policy, dict.fromkeys(self.benchmark.marks)
        name, is_fixed = policy["name"], policy.get("painter", "strokes") != "strokes"
        is_wordless = name in WORDLESS or (name in SEARCHES and is_fixed)
        said = {
            "is_planned": not is_wordless and not (name == "inspector" and is_fixed),
            "is_inspected": not is_wordless and name != "planner",
        }
        return [
            judged(errand, trajectory, chunk=k, seconds=seconds, **said).marked(pending)
            for errand, trajectory in zip(self.chunks[k], trajectories, strict=True)
        ]

    def _judge(self, k: int) -> None:
        """Ask about those of a chunk's drawings that have no marks yet; each kind of failure is said once."""
        drawings = self.finished[k]
        lacking = [i for i, drawing in enumerate(drawings) if drawing.lacks_marks]
        if not lacking:
            return
        transcripts = self.store.transcripts([drawings[i] for i in lacking])
        errands = [self.chunks[k][i] for i in lacking]
        for i, (marks, error) in zip(lacking, self.benchmark.judge(errands, transcripts, self.store.path), strict=True):
            drawings[i] = drawings[i].marked(marks, error)
            if error and error not in self._errors:
                self._errors.add(error)
                print(f"not judged: {error}", file=sys.stderr, flush=True)
        self.store.amend([drawings[i] for i in lacking])


def _chunks(benchmark: Benchmark, settings: Settings) -> list[list[Errand]]:
    """What is to be drawn; a chunk holds drawings of one task alone, which take about as long."""
    tasks: dict[str, list[Errand]] = {}
    for task in benchmark.asked():
        errands = tasks.setdefault(task.tag, [])
        errands += [Errand(task=task, sample=sample) for sample in range(settings.num_samples)]
    size = settings.batch
    return [errands[k : k + size] for errands in tasks.values() for k in range(0, len(errands), size)]


def _drawings_per_canvas(settings: Settings) -> dict[str, int] | None:
    policy = settings.policy
    return matched(policy["like"], policy.get("unit"), settings.steps) if policy.get("like") else None


def verifier_fingerprints(policy: Mapping[str, Any]) -> dict[str, str]:
    """Fingerprints of the weights that a search asks, where they are not those that draw."""
    folders = {name: policy.get("verifier", {}).get(name) for name in ("path", "adapter")}
    return {f"verifier_{name}": fingerprint(folder) for name, folder in folders.items() if folder is not None}


def _make_policy(settings: Settings) -> Callable[[], Policy]:
    """What loads the policy, in whichever process."""
    return partial(
        load_policy,
        settings.policy,
        steps=settings.steps,
        guidance=settings.guidance,
        score_fn=search_judge(settings.policy, settings.judge),
        verifier=search_verifier(settings.policy, settings.judge, settings.seed),
        chat=chat_of(settings.policy, settings.judge),
    )


def _so_far(finished: Mapping[int, Sequence[Drawing]]) -> str:
    strict = [drawing.strict for group in finished.values() for drawing in group if drawing.strict is not None]
    return f"strict {sum(strict) / len(strict):.3f}" if strict else "not judged"
