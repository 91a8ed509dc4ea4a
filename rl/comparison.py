"""PARM and its relatives against drawing in strokes: cells (method, seed), one by one, kept in ``docs/results/parm``.

    python -m strokes.rl.comparison                  # the next cell that is missing
    python -m strokes.rl.comparison parm-20 2        # this one
    python -m strokes.rl.comparison size=tiny        # the next one of bagel-tiny
    python -m strokes.rl.comparison tables           # tables and plot of all cells that are there

The methods are those of ``comparison_methods``. Seeds vary the noise of searches, and the training of what is trained,
the verifier among it. Everything goes on where it stood when it was killed.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..agents.load import fingerprint
from ..envs.files import replacing
from .compare import write
from .compare_policy import searcher
from .compare_table import measured
from .compare_training import NOTHING, learnt_in, together
from .comparison_cells import check, made_with
from .comparison_methods import METHODS, RUNS, SIZES, VERIFIER, Size, asks_verifier
from .comparison_tables import JUDGE, findings, lines_of
from .evaluation_folder import EvaluationFolder
from .grid import claimed, command, run

WORK, RESULTS = Path("outputs/parm"), Path("docs/results/parm")
KEPT = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "report.md", "run.json", "metrics.json")
"""Of a verifier, beside the results; the last one says that all are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where the cells of one size are worked on."""

    name: str
    size: Size

    @property
    def experiments(self) -> Sequence[str]:
        """All methods."""
        return list(METHODS)

    @property
    def seeds(self) -> Sequence[int]:
        """Of the size."""
        return self.size.seeds

    @property
    def work(self) -> Path:
        """Folder of everything."""
        return WORK / self.name

    @property
    def results(self) -> Path:
        """Folder of the results."""
        return RESULTS / self.name

    def folder(self, method: str, seed: int) -> Path:
        """A cell's own."""
        return self.work / method / str(seed)

    # What cells are made of; each is made once, whoever comes first.

    def verifier(self, seed: int) -> Path:
        """What is kept of the run that trained the verifier of a seed.

        All cells of a seed ask the same one, and to train it again, on another machine, gives other weights. So it
        stands beside the results.
        """
        folder, kept = self.work / "verifier" / str(seed), self.results / "verifier" / str(seed)
        if (kept / KEPT[-1]).exists():
            return kept
        self._run("strokes.rl.verifier", folder, f"seed={seed}", *self.size.verifier)
        with claimed(folder, waits=True):  # whoever waited for the same one copies the same files again
            for name in KEPT:
                with replacing(kept / name) as partial:
                    shutil.copyfile(folder / name, partial)
        return kept

    def trained(self, name: str, seed: int) -> Path:
        """One of ``RUNS``."""
        words = [*RUNS[name], f"seed={seed}", f"steps={self.size.steps}", *self.size.rl.get(name, ())]
        if asks_verifier(name):
            words = [word.replace(VERIFIER, str(self.verifier(seed) / "adapter")) for word in words]
        return self._run("strokes.rl.train", self.work / "trained" / name / str(seed), *words)

    def _run(self, module: str, folder: Path, *words: str) -> Path:
        with claimed(folder, waits=True):
            if not (folder / "metrics.json").exists():
                # What is kept of a run names no place of one machine.
                start = os.path.relpath(self.size.start.resolve())
                own = (f"policy={self.size.policy}", f"policy.path={start}", f"out={folder}")
                command(module, *words, *own)
        return folder

    def evaluated(self, method: str, seed: int) -> Path:
        """The evaluation of a method."""
        folder = self.folder(method, seed) / "evaluation"
        with claimed(folder, waits=True):
            if not (folder / "metrics.json").exists():
                words = [*self._policy(method, seed), f"seed={seed}", "threads=1", f"out={folder}"]
                words.append(f"limit={self.size.limit}")
                command("strokes.rl.evaluate", *words)
        return folder

    def _policy(self, name: str, seed: int) -> list[str]:
        method = METHODS[name]
        words = [*(method.policy or (f"policy={self.size.policy}",)), f"policy.path={self.size.start}"]
        if not method.heeds_refine:
            words.append("heeds_refine=false")
        if method.temperature is not None:
            words.append(f"policy.temperature={method.temperature}")
        if method.learns:
            words.append(f"policy.adapter={self.trained(method.learns, seed) / 'adapter'}")
        if method.verifier == "trained":
            words += ["policy.verifier.name=policy", f"policy.verifier.path={self.size.start}"]
            words.append(f"policy.verifier.adapter={self.verifier(seed) / 'adapter'}")
        for key, other in (("like", method.like), ("unit", method.unit)):
            if other:
                words.append(f"policy.{key}={self.evaluated(other, seed)}")
        return words

    def result(self, method: str, seed: int) -> dict[str, Any]:
        """Make a cell and read what came of it, as plain data.

        Raises:
            ValueError: It does not belong into one table with the cells that are there.
        """
        evaluation = self.evaluated(method, seed)
        told = METHODS[method]
        trained = self.trained(told.learns, seed) if told.learns else None
        verifier = self.verifier(seed) if told.verifier == "trained" or asks_verifier(told.learns) else None
        learnt = [learnt_in(run) for run in (trained, verifier) if run is not None]
        folder = EvaluationFolder(evaluation)
        settings = folder.settings()
        record = {
            "method": method,
            "seed": seed,
            "start": fingerprint(self.size.start),
            "made_with": made_with(evaluation, trained, verifier),
            "searcher": searcher(settings["policy"], settings["judge"]),
            "learnt": asdict(together(learnt) if learnt else NOTHING),
            "evaluation": measured(folder.drawings()),
        }
        cells = {name: self._cells(name) for name in METHODS}
        check({**cells, method: [*(cell for cell in cells[method] if cell["seed"] != seed), record]})
        return record

    def write(self) -> str:
        """Tables and plot of the cells that are there; the tables."""
        cells = {name: self._cells(name) for name in METHODS}
        if not (lines := lines_of(cells)):
            return "no cell is there yet"
        write(lines, JUDGE, self.results, findings(cells))
        return (self.results / "table.md").read_text()

    def _cells(self, method: str) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted((self.results / method).glob("*.json"))]


def main(arguments: Sequence[str]) -> int:
    """The command; the exit code, 0 if it did what was asked."""
    try:
        return run({name: Bench(name=name, size=size) for name, size in SIZES.items()}, arguments)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
