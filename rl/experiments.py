"""The grid of experiments: cells (experiment, seed) of a few minutes each, run one by one and kept in ``docs/results``.

    python -m strokes.rl.experiments               # the next cell that is missing
    python -m strokes.rl.experiments text-only 2   # this one
    python -m strokes.rl.experiments table         # the tables of all cells that are there

A cell is ``strokes-rl +experiment=<name> seed=<seed>`` and two evaluations of what it learnt on the whole held-out
set: greedy, as the policy is used, and at temperature 1, as it learns. Both are paired with the start's, task by task
with the same noise. A cell that was killed goes on where it stood; a cell that somebody is at is passed over.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.load import NANO
from ..envs.files import file_sha256, replacing
from ..rewards.interval import OVERALL
from .grid import children_seconds, claimed, missing, path_of
from .pairing import pair

EXPERIMENTS = ("text-only", "image-only", "joint-outcome", "joint-stages", "joint-improvement", "price")
SEEDS = (0, 1, 2)
START = "start"
MODES = {"greedy": "0.0", "sampled": "1.0"}
"""Temperature of words in each evaluation."""
WORK, RESULTS = Path("outputs/experiments"), Path("docs/results")


def main(arguments: Sequence[str]) -> int:
    """The command; the exit code, 0 if it did what was asked."""
    if list(arguments) == ["table"]:
        print(table(RESULTS))
        return 0
    if len(arguments) == 2 and arguments[0] in EXPERIMENTS and arguments[1].isdecimal():
        code = run(arguments[0], int(arguments[1]))
        if code is None:
            print("somebody is at this cell", file=sys.stderr)
        return 1 if code is None else code
    if arguments:
        print(
            f"Expected nothing, `table`, or one of {', '.join(EXPERIMENTS)} and a seed, got {' '.join(arguments)}.",
            file=sys.stderr,
        )
        return 1
    for experiment, seed in missing(RESULTS, EXPERIMENTS, SEEDS):
        if (code := run(experiment, seed)) is not None:
            return code
    print("every cell is there, or somebody is at it")
    return 0


def run(experiment: str, seed: int) -> int | None:
    """Run a cell; its exit code, or ``None`` where somebody else is at it."""
    folder = WORK / experiment / str(seed)
    with claimed(folder) as mine:
        if not mine:
            return None
        print(f"cell {experiment} {seed} in {folder}", flush=True)
        evaluate_start()
        begun, spent = time.perf_counter(), children_seconds()
        command = [
            sys.executable,
            "-m",
            "strokes.rl.train",
            f"+experiment={experiment}",
            f"seed={seed}",
            f"out={folder}",
        ]
        if code := subprocess.run(command, check=False).returncode:
            return code
        seconds = {"wall": time.perf_counter() - begun, "cpu": children_seconds() - spent}
        for mode in MODES:
            _evaluate(mode, folder / mode, f"policy.adapter={folder / 'adapter'}")
        start = {"checkpoint": NANO.name, "sha256": file_sha256(NANO / "ema.safetensors")}
        record = {"experiment": experiment, "seed": seed, "start": start, "seconds": seconds, **_record(folder)}
        with replacing(path_of(RESULTS, experiment, seed)) as partial:
            partial.write_text(json.dumps(record, indent=1, default=float) + "\n")
    with replacing(RESULTS / "experiments.md") as partial:
        partial.write_text(table(RESULTS) + "\n")
    return 0


def evaluate_start() -> None:
    """The start of all cells, evaluated once."""
    with claimed(WORK / START, waits=True):
        for mode in MODES:
            if not (WORK / START / mode / "metrics.json").exists():
                _evaluate(mode, WORK / START / mode)


def _evaluate(mode: str, out: Path, *overrides: str) -> None:
    command = ["policy=bagel-nano", f"policy.temperature={MODES[mode]}", "threads=1", f"out={out}", *overrides]
    subprocess.run([sys.executable, "-m", "strokes.rl.evaluate", *command], check=True, stdout=subprocess.DEVNULL)


def _record(folder: Path) -> dict[str, Any]:
    """What a cell's files say, as plain data."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    curve = [
        {"step": line["step"], **{name: line[f"heldout/{name}"] for name in ("strict", "soft", "images")}}
        for line in lines
        if "heldout/strict" in line
    ]
    drifts = {
        name: max((line.get(f"drift/{name}_max", 0.0) for line in lines), default=0.0) for name in ("text", "flow")
    }
    found: dict[str, Any] = {"settings": json.loads((folder / "run.json").read_text()), "curve": curve, "drift": drifts}
    found["reward"] = [line["reward"] for line in lines if "reward" in line]
    for mode in MODES:
        rows = json.loads((folder / mode / "metrics.json").read_text())["rows"]
        paired = pair(str(folder / mode), str(WORK / START / mode)).to_dict()["comparisons"]
        found[mode] = {
            "rows": rows,
            "against the start": {metric: paired[metric]["rows"] for metric in ("strict", "soft")},
        }
    return found


def table(results: Path) -> str:
    """All cells that are there: strict scores, differences to the start and images, means over seeds."""
    lines = [
        "| experiment | seeds | greedy: strict | difference | images | sampled: strict | difference | images | min |",
        "|---|---:|---:|---|---:|---:|---|---:|---:|",
    ]
    for experiment in EXPERIMENTS:
        cells = [json.loads(path.read_text()) for path in sorted((results / experiment).glob("*.json"))]
        if cells:
            lines.append(_row(experiment, cells))
    return "\n".join(
        [
            *lines,
            "",
            "Held-out set, 756 tasks. Differences to the start on the same tasks and noise, means over seeds; in",
            "brackets the means of the seeds' 95 % bounds (clustered by prompt): the interval of the mean is no wider.",
            "Minutes are of CPU. `make experiments` runs the next cell that is missing.",
        ]
    )


def _row(experiment: str, cells: Sequence[Mapping[str, Any]]) -> str:
    parts = [experiment, str(len(cells))]
    for mode in MODES:
        overall = [_overall(cell[mode]["rows"]) for cell in cells]
        parts.append(f"{np.mean([row['strict']['mean'] for row in overall]):.3f}")
        paired = [_overall(cell[mode]["against the start"]["strict"])["difference"] for cell in cells]
        mean, low, high = (np.mean([each[name] for each in paired]) for name in ("mean", "low", "high"))
        parts.append(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
        parts.append(f"{np.mean([row['images'] for row in overall]):.2f}")
    parts.append(f"{np.mean([cell['seconds']['cpu'] for cell in cells]) / 60:.1f}")
    return f"| {' | '.join(parts)} |"


def _overall(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next(row for row in rows if row["task"] == OVERALL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
