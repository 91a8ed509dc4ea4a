"""``strokes-compare``: ways to draw with one checkpoint, how good they are and what they cost.

Every entry and seed is an evaluation of its own, in ``<out>/<entry>/<seed>``, as ``strokes-evaluate`` makes them; one
that is finished is not drawn again. Writes ``table.md``, ``table.csv`` and ``plot.png``, anew after every entry.
``configs/compare.yaml`` says what can be set.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..agents.adapter import read_adapter
from ..agents.command import run as run_command
from ..agents.command import settings_from
from ..agents.load import checkpoint_of
from ..agents.searches import SEARCHES
from ..envs.files import write_whole
from .compare_plot import draw_plot
from .compare_settings import SEED, Entry, Settings
from .compare_table import Line, measured, to_csv, to_markdown
from .compare_training import Learnt, averaged, learnt
from .evaluate import evaluate
from .evaluation_folder import EvaluationFolder
from .evaluation_settings import Settings as Evaluation

ORACLE = "exact (oracle)"


def main() -> int:
    """The console script; returns the exit code, 0 only if there is a table."""
    return run_command(command, "compare")


def command(config: Any, folder: Path) -> bool:
    """Compare as ``config`` says; everything goes into ``folder``."""
    compare(settings_from(config, Settings, "compare"), folder)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One entry, looked through before anything is drawn."""

    name: str
    evaluations: Mapping[int, Evaluation]
    """What is to be evaluated, by seed."""
    searcher: str
    learnt: Learnt
    """For one seed, on average."""


def compare(settings: Settings, folder: Path) -> list[Line]:
    """Evaluate what is not evaluated yet, and write the tables and the plot.

    Args:
        settings: What is compared.
        folder: The comparison's folder.
    """
    lines: list[Line] = []
    for plan in plans(settings, folder):
        found = []
        for seed, evaluation in plan.evaluations.items():
            print(f"\n{plan.name}, seed {seed}", flush=True)
            evaluate(evaluation, Path(evaluation.out))
            found.append(measured(EvaluationFolder(evaluation.out).drawings()))
        lines.append(Line(name=plan.name, evaluations=found, searcher=plan.searcher, learnt=plan.learnt))
        write(lines, judged_by(settings.benchmark, settings.judge, settings.detector), folder)
    print(f"\n{(folder / 'table.md').read_text()}\nwritten to {folder.absolute()}")
    return lines


def write(lines: Sequence[Line], judge: str, folder: Path, more: str = "") -> None:
    """``table.md``, with ``more`` below the tables, ``table.csv`` and ``plot.png``."""
    write_whole(folder / "table.md", "\n\n".join([to_markdown(lines, judge), *filter(None, [more])]) + "\n")
    write_whole(folder / "table.csv", to_csv(lines))
    draw_plot(lines, folder / "plot.png")


def plans(settings: Settings, folder: Path) -> list[Planned]:
    """All entries as evaluations, in the order in which they can be drawn.

    Raises:
        ValueError: An entry that cannot be evaluated; nothing was drawn yet.
    """
    planned = []
    for name, entry in settings.ordered().items():
        given = policy_of(name, entry, settings.policy)
        evaluations = {seed: _evaluation(settings, name, entry, given, seed, folder) for seed in settings.seeds}
        runs = [[run.replace(SEED, str(seed)) for run in _runs(entry)] for seed in settings.seeds]
        told = [learnt(entry.training, each) for each in runs]
        judge = searcher(given, settings.judge)
        planned.append(Planned(name=name, evaluations=evaluations, searcher=judge, learnt=averaged(told)))
    return planned


def _runs(entry: Entry) -> Sequence[str]:
    return () if entry.training is None else entry.training.runs


def policy_of(name: str, entry: Entry, shared: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an entry's policy: those of its file, the weights and the sampling of all, and its own.

    Raises:
        ValueError: No such file, or an option that it does not have.
    """
    given = dict(shared)
    if entry.policy is not None:
        given = _file(name, entry.policy)
        if "sampling" in given:  # a BAGEL
            given |= {key: value for key, value in shared.items() if key in given and key != "name"}
    if "sampling" in given and entry.options.get("path") is None:
        given["path"] = str(checkpoint_of(shared))
    return _overlaid(given, entry.options, f"entries.{name}.options")


def _file(name: str, policy: str) -> dict[str, Any]:
    """``configs/policy/<policy>.yaml``, composed."""
    from hydra import compose as hydra_compose
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    known = GlobalHydra.instance().config_loader().get_group_options("policy")
    if policy not in known:
        raise ValueError(f"Expected entries.{name}.policy among {', '.join(known)}, got {policy!r}.")
    composed = hydra_compose("evaluate", [f"policy={policy}"])
    values: Any = OmegaConf.to_container(composed.policy, resolve=True)
    return dict(values)


def _overlaid(base: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    if unknown := sorted(set(given) - set(base)):
        raise ValueError(f"Expected {where} among {', '.join(base)}, got {', '.join(unknown)}.")
    inner = {key for key, value in given.items() if isinstance(value, Mapping) and isinstance(base[key], Mapping)}
    return {**base, **given, **{key: _overlaid(base[key], given[key], f"{where}.{key}") for key in inner}}


def _evaluation(
    settings: Settings, name: str, entry: Entry, policy: Mapping[str, Any], seed: int, folder: Path
) -> Evaluation:
    given = _seeded(policy, seed)
    if entry.like is not None:
        if "like" not in given:
            raise ValueError(f"Expected entries.{name}.like with a search that has n, got policy={given['name']}.")
        given["like"] = str(folder / entry.like / str(seed))
    _check_weights(given)
    return Evaluation(
        policy=given,
        benchmark=settings.benchmark,
        detector=settings.detector,
        judge=settings.judge,
        split=settings.split,
        limit=settings.limit,
        num_samples=settings.num_samples,
        seed=seed,
        batch=settings.batch,
        threads=settings.threads,
        steps=given["steps"],
        guidance=given["guidance"],
        size=given["size"],
        heeds_refine=entry.heeds_refine,
        workers=settings.workers,
        gpus=settings.gpus,
        address=settings.address,
        compare=None,
        out=str(folder / name / str(seed)),
    )


def _seeded(value: Any, seed: int) -> Any:
    """The same with the seed in place of ``SEED``."""
    if isinstance(value, Mapping):
        return {key: _seeded(each, seed) for key, each in value.items()}
    return value.replace(SEED, str(seed)) if isinstance(value, str) else value


def _check_weights(policy: Mapping[str, Any]) -> None:
    """``ValueError`` unless all weights that a policy names are there."""
    asked = policy.get("verifier") or {}
    if "path" in policy:
        checkpoint_of(policy)
    if asked.get("path") is not None:
        checkpoint_of(asked)
    for adapter in (policy.get("adapter"), asked.get("adapter")):
        if adapter is not None:
            read_adapter(adapter)


def searcher(policy: Mapping[str, Any], judge: Mapping[str, Any]) -> str:
    """Who judges in a policy's search; "": nobody, it does not search."""
    if policy["name"] not in SEARCHES:
        return ""
    name = policy.get("judge", "verifier")
    verifier = policy["verifier"]
    if name == "verifier":
        name = verifier["name"]
        if name == "policy" and verifier["adapter"] is not None:
            return "own understanding, trained"
    return {"policy": "own understanding", "remote": str(judge["model"])}.get(name, ORACLE)


def judged_by(benchmark: Mapping[str, Any], judge: Mapping[str, Any], detector: Mapping[str, Any]) -> str:
    """Whose verdicts a benchmark's scores are."""
    if benchmark["name"] == "geneval":
        return f"geneval, detector {detector['name']}"
    if benchmark.get("judge", "exact") == "exact" and benchmark["name"] != "wise":
        return f"{benchmark['name']}, the mini-world's truth"
    return f"{benchmark['name']}, {judge['model']}"


if __name__ == "__main__":
    sys.exit(main())
