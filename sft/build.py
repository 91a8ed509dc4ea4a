"""``strokes-data``: the paper's three subsets, built in chunks, audited, with its Table 1.

    <out>/<subset>/<split>-<chunk>.parquet     a chunk of samples, see ``store``
    <out>/<subset>/<split>-<chunk>.json        what was counted in it, and what its audit found
    <out>/<subset>/run.json                    the settings that decide the subset; others are refused
    <out>/table1.json, README.md               the paper's table of all subsets there are, and the card

A chunk depends on the settings and its number alone: whoever builds it, here or in a Ray actor, writes the same bytes.
What a killed build left behind is whole, and the same command builds what is missing. Subsets can be added one after
another, as in the paper, where the model that was trained on the first samples the others.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ..agents.command import nested
from ..agents.command import run as run_command
from ..agents.load import fingerprint
from ..agents.pool import Pool, Resources, Task, start_ray, stop_ray
from ..agents.run_folder import RunFolder
from .audit import Audit, audit
from .build_settings import Settings
from .chunks import num_chunks
from .data_card import card
from .makers import make_maker, sampler_policy
from .sample import Maker, Subset
from .scene_prompts import SPLITS
from .store import read_shard, shard_bytes
from .table1 import Row, Tally, table1, tally
from .whole_file import write_bytes

FREE = ("sampler.path", "multi_turn.real.device")
"""Settings of a subset that may differ when its build goes on; who samples is known by the weights."""


class Job(NamedTuple):
    """One shard to build."""

    subset: Subset
    split: str
    chunk: int
    num: int
    """Samples in it."""

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.split}-{self.chunk:05d}"


class Builder:
    """Builds shards; one in each process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._makers: dict[tuple[Subset, str], Maker] = {}

    def build(self, job: Job) -> tuple[bytes, dict[str, Any]]:
        """The content of a shard, and what there is to say of it."""
        key = (job.subset, job.split)
        if key not in self._makers:
            self._makers = {key: make_maker(self.settings, *key)}  # one at a time: some hold a model
        samples = self._makers[key].make(job.chunk, job.num)
        checked = audit(samples).to_json() if self.settings.audit else None
        content, counts = shard_bytes(samples), tally(samples).to_json()
        return content, {"asked": job.num, "bytes": len(content), "counts": counts, "audit": checked}


def jobs(settings: Settings) -> list[Job]:
    """All shards of a build, in order."""
    found = []
    for subset, split in product(settings.subsets, SPLITS):
        num, size = settings.num(subset, split), settings.chunk_size
        found += [Job(subset, split, k, min(size, num - k * size)) for k in range(num_chunks(num, size))]
    return found


def built(settings: Settings, todo: Sequence[Job]) -> Generator[tuple[bytes, dict[str, Any]], None, None]:
    """The shards of ``todo``, in order, each as soon as it is there."""
    if not settings.workers:
        builder = Builder(settings)
        for job in todo:
            yield builder.build(job)
        return
    with ExitStack() as opened:
        if start_ray(settings.address):
            opened.callback(stop_ray)
        resources = Resources(num_gpus=settings.gpus)
        pool = Pool(partial(Builder, settings), min(settings.workers, len(todo)), resources=resources)
        opened.callback(pool.close)
        tickets = [pool.submit([Task("build", (job,))]) for job in todo]
        for ticket in tickets:
            (shard,) = pool.wait(ticket)
            yield shard


def build(settings: Settings, folder: Path) -> None:
    """Build the shards that are missing, each written after what was counted in it.

    Raises:
        ValueError: The folder holds another build, an input is missing, too few samples come out.
    """
    runs = {subset: RunFolder(folder / subset, record(settings, subset), FREE) for subset in settings.subsets}
    asked = jobs(settings)
    there = {job: report for job in asked if (report := report_of(*files_of(folder, job)))}
    todo = [job for job in asked if job not in there]
    if there:
        print(f"{len(there)} of {len(asked)} shards are there", flush=True)
    if settings.audit:
        audit_late(folder, there)
    begun, num = time.perf_counter(), 0
    with closing(built(settings.absolute(), todo)) as shards:
        for number, job in enumerate(todo, len(asked) - len(todo) + 1):
            content, report = next(shards)
            if not runs[job.subset].record.exists():
                runs[job.subset].begin()
            shard, counts = files_of(folder, job)
            write_bytes(counts, json.dumps(report).encode())
            write_bytes(shard, content)
            num += job.num
            rate = num / (time.perf_counter() - begun)
            print(f"{number}/{len(asked)} {job.subset} {job.name}: {job.num} samples, {rate:.0f}/s", flush=True)


def audit_late(folder: Path, there: Mapping[Job, Mapping[str, Any]]) -> None:
    """Audit the shards that were built without."""
    for job, report in there.items():
        if report["audit"] is None:
            shard, counts = files_of(folder, job)
            write_bytes(counts, json.dumps({**report, "audit": audit(read_shard(shard)).to_json()}).encode())
            print(f"{job.subset} {job.name}: audited", flush=True)


def record(settings: Settings, subset: Subset) -> dict[str, Any]:
    """What decides a subset, the weights of who self-samples among it."""
    decided = settings.of(subset)
    if "sampler" in decided:
        decided["sampler"] |= {"sha256": fingerprint(Path(sampler_policy(settings.sampler)["path"]))}
    return decided


def files_of(folder: Path, job: Job) -> tuple[Path, Path]:
    """Where a shard is, and what was counted in it."""
    path = folder / job.subset / job.name
    return path.with_suffix(".parquet"), path.with_suffix(".json")


def report_of(shard: Path, counts: Path) -> dict[str, Any] | None:
    """What was counted in a shard; ``None`` unless both files are there and whole, as on a disk that lost power."""
    try:
        report = json.loads(counts.read_bytes())
        return report if report["bytes"] == shard.stat().st_size else None
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def conclude(folder: Path) -> Audit:
    """Write table and card of all subsets that are in the folder, and show the table; what the audit found."""
    counted, checked, asked, runs = Tally(), Audit(), Counter[str](), {}
    for subset in Subset:
        for path in sorted((folder / subset).glob("*-*.json")):
            report = report_of(path.with_suffix(".parquet"), path)
            if report is None:
                continue
            counted += Tally.from_json(report["counts"])
            asked[f"{subset}/{path.stem.partition('-')[0]}"] += report["asked"]
            num = sum(row["total"] for row in report["counts"].values())
            checked += Audit.from_json(report["audit"]) if report["audit"] else Audit(samples=num, unaudited=num)
            runs[subset] = json.loads((folder / subset / "run.json").read_text())
    tables = f"{table1(counted)}\n\nFor validation, on top of these:\n\n{table1(counted, 'validation')}"
    totals = {name: counted.rows.get(name, Row()).total for name in asked}
    short = {name: num - totals[name] for name, num in asked.items() if totals[name] < num}
    if short:
        tables += "\n\nRejected and not replaced: " + ", ".join(f"{num:,} of {name}" for name, num in short.items())
    rows = {name: row.values for name, row in counted.rows.items()}
    told = {"table": rows, "asked": dict(asked), "audit": checked.to_json(), "runs": runs}
    write_bytes(folder / "README.md", card(runs, tables, f"{checked}").encode())
    write_bytes(folder / "table1.json", f"{json.dumps(told, indent=1)}\n".encode())
    print(f"\n{tables}\n\n{checked}\n\nwritten to {folder.absolute()}", flush=True)
    return checked


def command(config: Any, folder: Path) -> bool:
    """Build as ``config`` says; everything goes into ``folder``."""
    from omegaconf import OmegaConf

    values: Any = OmegaConf.to_container(config, resolve=True)
    build(nested(Settings, values, "data"), folder)
    checked = conclude(folder)
    if not checked.is_clean:
        wrong = ", ".join(f"{num} {name.replace('_', ' ')}" for name, num in checked.errors.items() if num)
        raise ValueError(f"Expected an audit that finds nothing, got {wrong}; see README.md in {str(folder)!r}.")
    return True


def main() -> int:
    """The console script; returns the exit code, 0 only if the data are whole."""
    return run_command(command, "data")


if __name__ == "__main__":
    sys.exit(main())
