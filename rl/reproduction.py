"""The paper's tables 4 to 7 on the mini-world: cells (experiment, seed), one by one, kept in ``docs/results/paper``.

    python -m strokes.rl.reproduction                       # the next cell that is missing
    python -m strokes.rl.reproduction table7/both 2         # this one
    python -m strokes.rl.reproduction size=tiny             # the next one of bagel-tiny
    python -m strokes.rl.reproduction tables                # the tables of all cells that are there

All models of a size start from one base (``mixture=base``: draws, edits and describes, knows nothing of the process)
and are trained for the same tokens; what differs is the data. Critique is self-sampled as in the paper: the model
trained on multi-turn generation alone (``table7/multi-turn``, seed 0) proposes plans and draws sketches, which are then
judged. Seeds vary the training; base and data are the same for all. A cell makes what it needs and is not there yet:
the base, the model that self-samples, data sets. Everything goes on where it stood when it was killed.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..agents.load import fingerprint
from ..envs.files import write_whole
from .evaluation_folder import EvaluationFolder
from .grid import Failed, claimed, command, run
from .reproduction_cells import DATA, EXPERIMENTS, JUDGED, LONGER, SAMPLER, SHARES, SIZES, Size
from .reproduction_tables import tables

WORK, RESULTS = Path("outputs/paper"), Path("docs/results/paper")
ORACLE = Path(__file__).parents[1] / "tests" / "rewards" / "truthful.py"
"""The server of the training-free baselines; a checkout has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where the cells of one size are worked on."""

    name: str
    size: Size

    @property
    def experiments(self) -> Sequence[str]:
        """Of every size the same."""
        return EXPERIMENTS

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

    def folder(self, experiment: str, seed: int) -> Path:
        """A cell's own."""
        return self.work / experiment / str(seed)

    def checkpoint(self, experiment: str, seed: int) -> Path:
        """What a cell trains."""
        return self.folder(experiment, seed) / "train" / "checkpoint"

    # What cells are made of; each is made once, whoever comes first.

    def base(self) -> Path:
        """The start of all training."""
        start: list[str] = []
        with claimed(self.work / "base", waits=True):
            for k, words in enumerate(self.size.base):
                folder = self.work / "base" / str(k)
                if not (folder / "metrics.json").exists():
                    command("strokes.sft.pretrain", *words, *start, f"out={folder}")
                start = [f"init={folder / 'checkpoint'}"]
        return folder / "checkpoint"

    def data(self, name: str) -> Path:
        """A data set."""
        folder = self.work / "data" / name
        kind = "additive" if name.startswith("additive") else "edits"
        words = [f"out={folder}"]
        if kind == "additive":
            words.append("multi_turn.detour_rate=0.0")
        subset = name.removeprefix("additive-") if name not in ("edits", "additive") else "multi_turn"
        if subset == "symbolic":
            words += [f"scale={self.size.scale}", "conflict.source=symbolic"]
            subset = "conflict"
        elif subset != "multi_turn":
            words += [f"scale={self.size.scale}"]
            words += [f"sampler.policy={self.size.policy}", f"sampler.path={self.trained(SAMPLER[kind], 0)}"]
        with claimed(folder, waits=True):
            if not _is_clean(folder / "table1.json"):
                command("strokes.sft.build", f"subset={subset}", *words)
        return folder / subset

    def trained(self, experiment: str, seed: int) -> Path:
        """The checkpoint of an experiment."""
        folder = self.folder(experiment, seed) / "train"
        with claimed(folder, waits=True):
            if not (folder / "metrics.json").exists():
                words = [f"data.{subset}.path={self.data(name)}" for subset, name in DATA[experiment].items()]
                words += [f"data.{subset}.share={SHARES[subset]}" for subset in DATA[experiment]]
                words += [f"model.init={self.base()}", f"seed={seed}", f"out={folder}"]
                words.append(f"steps={self.size.steps * LONGER.get(experiment, 1)}")
                command("strokes.sft.train", f"experiment={experiment}", *self.size.sft, *words)
        return folder / "checkpoint"

    def evaluated(self, experiment: str, seed: int) -> Path:
        """The evaluation of an experiment."""
        folder = self.folder(experiment, seed) / "evaluation"
        with claimed(folder, waits=True):
            if not (folder / "metrics.json").exists():
                words = [*self._policy(experiment, seed), f"seed={seed}", "threads=1", f"out={folder}"]
                with _oracle(experiment) as server:
                    command("strokes.rl.evaluate", *words, *server)
        return folder

    def _policy(self, experiment: str, seed: int) -> list[str]:
        if experiment == "table4/one-shot":
            return ["policy=one-shot", f"policy.path={self.trained(experiment, seed)}"]
        if experiment == "table4/best-of-n":
            path, like = self.trained("table4/one-shot", seed), self.evaluated("table7/both", seed)
            return ["policy=best-of-n", f"policy.path={path}", f"policy.like={like}"]
        if experiment in JUDGED:
            name = experiment.removeprefix("table4/")
            return [f"policy={name}", "policy.painter=one-shot", f"policy.path={self.base()}"]
        return [f"policy={self.size.policy}", f"policy.path={self.trained(experiment, seed)}"]

    def result(self, experiment: str, seed: int) -> dict[str, Any]:
        """Make a cell and read what came of it, as plain data."""
        record: dict[str, Any] = {"experiment": experiment, "seed": seed, "base": fingerprint(self.base())}
        if experiment in DATA:
            record["checkpoint"] = fingerprint(self.trained(experiment, seed))
            folder = self.folder(experiment, seed) / "train"
            record["training"] = json.loads((folder / "metrics.json").read_text())
            record["data"] = {
                subset: json.loads((self.data(name).parent / "table1.json").read_text())
                for subset, name in DATA[experiment].items()
            }
        folder = self.evaluated(experiment, seed)
        metrics = json.loads((folder / "metrics.json").read_text())
        record["evaluation"] = {key: metrics[key] for key in ("rows", "inspections", "refinements", "conduct")}
        strict: dict[str, list[tuple[str, float | None]]] = {}
        for drawing in sorted(EvaluationFolder(folder).drawings(), key=lambda each: (each.prompt_id, each.seed)):
            strict.setdefault(drawing.task, []).append((drawing.prompt_id, drawing.strict))
        record["strict"] = strict
        return record

    def write(self) -> str:
        """The tables, also in ``tables.md``."""
        text = tables(self.results)
        write_whole(self.results / "tables.md", text + "\n")
        return text


@contextmanager
def _oracle(experiment: str) -> Iterator[list[str]]:
    """Settings of the remote model that an experiment asks: the server that knows the mini-world."""
    if experiment not in ("table4/planner", "table4/inspector"):
        yield []
        return
    with subprocess.Popen([sys.executable, str(ORACLE)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            if not (url := server.stdout.readline().strip()):
                raise Failed(1)
            yield [f"judge.base_url={url}", "judge.model=truth"]
        finally:
            server.terminate()


def _is_clean(report: Path) -> bool:
    """Whether a data set is there and its audit found nothing."""
    return report.exists() and not json.loads(report.read_text())["audit"]["findings"]


def main(arguments: Sequence[str]) -> int:
    """The command; the exit code, 0 if it did what was asked."""
    return run({name: Bench(name=name, size=size) for name, size in SIZES.items()}, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
