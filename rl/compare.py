"""``strokes-compare``: ways to draw with one checkpoint, how good they are and what they cost.

Every entry and seed is an evaluation of its own, in ``<out>/<entry>/<seed>``, as ``strokes-evaluate`` makes them; one
that is finished is not drawn again. Writes ``table.md``, ``table.csv`` and ``plot.png``, anew after every entry.
``configs/compare.yaml`` says what can be set.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..agents.command import run as run_command
from ..agents.command import settings_from
from ..agents.load import checkpoint_of
from ..agents.searches import SEARCHES
from ..envs.files import write_whole
from .compare_plot import draw_plot
from .compare_policy import TRAINED, check, searcher, shown
from .compare_settings import SEED, Entry, Settings
from .compare_table import Line, measured, to_csv, to_markdown
from .compare_training import Learnt, averaged, learnt, learnt_by_verifier, together
from .evaluate import evaluate
from .evaluation_folder import EvaluationFolder
from .evaluation_settings import Settings as Evaluation


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
    """That of the entry, or with ``-oracle`` where the truth judges its search."""
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
    entries = settings.ordered()
    policies = {name: policy_of(name, entry, settings.policy, settings.verifier) for name, entry in entries.items()}
    searchers = {name: searcher(policy, settings.judge) for name, policy in policies.items()}
    folders = {name: folder / shown(name, searchers[name]) for name in entries}
    if twice := [name for name, path in folders.items() if list(folders.values()).count(path) > 1]:
        raise ValueError(f"Expected entries with names of their own, got {' and '.join(twice)}; -oracle is added here.")
    planned = []
    for name, entry in entries.items():
        evaluations = {seed: _evaluation(settings, name, policies[name], seed, folders) for seed in settings.seeds}
        runs = [[run.replace(SEED, str(seed)) for run in _runs(entry)] for seed in settings.seeds]
        asked = [_asked(policies[name], searchers[name], seed) for seed in settings.seeds]
        told = averaged([together([learnt(entry.training, own), *of]) for own, of in zip(runs, asked, strict=True)])
        kept = folders[name].name
        planned.append(Planned(name=kept, evaluations=evaluations, searcher=searchers[name], learnt=told))
    return planned


def _asked(policy: Mapping[str, Any], searched_by: str, seed: int) -> list[Learnt]:
    """What the trained verifier learnt from that a search asks; empty: it asks none."""
    if searched_by != TRAINED:
        return []
    return [learnt_by_verifier(policy["verifier"]["adapter"].replace(SEED, str(seed)))]


def _runs(entry: Entry) -> Sequence[str]:
    return () if entry.training is None else entry.training.runs


def policy_of(name: str, entry: Entry, shared: Mapping[str, Any], verifier: str | None = None) -> dict[str, Any]:
    """The settings of an entry's policy: those of its file, the weights and the sampling of all, and its own.

    Args:
        name: Of the entry.
        entry: What it says.
        shared: Who draws for all.
        verifier: Folder of a trained verifier's adapter, which searches then ask; ``None``: whom their files say.

    Raises:
        ValueError: No such file, or an option that it does not have.
    """
    given = dict(shared)
    if entry.policy is not None:
        given = _file(name, entry.policy)
        if "sampling" in given:  # a BAGEL
            own = {"name", "temperature"} if given["name"] in SEARCHES else {"name"}  # candidates have to differ
            given |= {key: value for key, value in shared.items() if key in given and key not in own}
    if "sampling" in given and entry.options.get("path") is None:
        given["path"] = str(checkpoint_of(shared))
    if verifier is not None and given["name"] in SEARCHES:
        start = str(checkpoint_of(shared))  # on which it was trained, whatever the entry draws with
        given["verifier"] = {**given["verifier"], "name": "policy", "path": start, "adapter": verifier}
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
    settings: Settings, name: str, policy: Mapping[str, Any], seed: int, folders: Mapping[str, Path]
) -> Evaluation:
    """What is to be evaluated, with everything looked at that can be wrong with it."""
    entry = settings.ordered()[name]
    given = _seeded(policy, seed)
    for key, other in entry.references().items():
        if key not in given:
            raise ValueError(f"Expected entries.{name}.{key} with a search that has n, got policy={given['name']}.")
        given[key] = str(folders[other] / str(seed))
    evaluation = _composed(settings, given, seed, entry.heeds_refine, folders[name] / str(seed))
    check(evaluation)
    _check_folder(evaluation)
    return evaluation


def _composed(settings: Settings, given: Mapping[str, Any], seed: int, heeds_refine: bool, out: Path) -> Evaluation:
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
        heeds_refine=heeds_refine,
        workers=settings.workers,
        gpus=settings.gpus,
        address=settings.address,
        compare=None,
        out=str(out),
    )


def _check_folder(evaluation: Evaluation) -> None:
    """``ValueError`` if the folder holds an evaluation with other settings; weights are looked at when it goes on."""
    store = EvaluationFolder(evaluation.out)
    if store.is_begun:
        store.check({**store.settings(), **asdict(evaluation)})


def _seeded(value: Any, seed: int) -> Any:
    """The same with the seed in place of ``SEED``."""
    if isinstance(value, Mapping):
        return {key: _seeded(each, seed) for key, each in value.items()}
    return value.replace(SEED, str(seed)) if isinstance(value, str) else value


def judged_by(benchmark: Mapping[str, Any], judge: Mapping[str, Any], detector: Mapping[str, Any]) -> str:
    """Whose verdicts a benchmark's scores are."""
    if benchmark["name"] == "geneval":
        return f"geneval, detector {detector['name']}"
    if benchmark.get("judge", "exact") == "exact" and benchmark["name"] != "wise":
        return f"{benchmark['name']}, the mini-world's truth"
    return f"{benchmark['name']}, {judge['model']}"


if __name__ == "__main__":
    sys.exit(main())
