"""What entries of a comparison learnt from, beyond the checkpoint that they share: as runs tell it, or as it is said.

Two counts, which do not add up: drawings that were made for it and judged (reinforcement learning, preferences, and
what a verifier's looks are of), and labelled examples (of a verifier: several of one drawing; of supervision). The
paper holds PARM's 688K examples against its own 62K (arXiv 2604.04746, table 4).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..agents.run_folder import logged_seconds
from .compare_settings import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What was learnt from."""

    drawings: int | None
    """Made for it, and judged; ``None``: nobody says."""
    examples: int | None
    """Labelled ones; ``None``: nobody says."""
    seconds: float | None
    """Wall time of learning, and of drawing and labelling for it; ``None``: nobody says."""
    judge: str
    """Who judged; "": nobody, or nobody says."""


EVALUATED = "the verdict that evaluates scenes"
"""Marks what learns from the strict truth, by which the benchmarks of the mini-world are evaluated, too."""
NOTHING = Learnt(drawings=0, examples=0, seconds=0.0, judge="")
"""Of what has no training of its own."""


def learnt(training: Training | None, runs: Iterable[str]) -> Learnt:
    """What an entry learnt from: its runs, and what is said beside them.

    Args:
        training: As it is set.
        runs: Its folders, for one seed.
    """
    if training is None:
        return NOTHING
    told = [learnt_in(run) for run in runs]
    said = (training.drawings, training.examples, training.seconds)
    if not told or (*said, training.judge) != (None, None, None, None):
        rest = 0 if told else None  # where runs tell it, what is not said beside them is no more
        drawings, examples = (rest if each is None else each for each in (training.drawings, training.examples))
        seconds = rest if training.seconds is None else training.seconds
        told.append(Learnt(drawings=drawings, examples=examples, seconds=seconds, judge=training.judge or ""))
    return together(told)


def together(parts: Iterable[Learnt]) -> Learnt:
    """The sum; of what is not known of one part, nothing is known."""
    told = list(parts)
    return Learnt(
        drawings=_sum([each.drawings for each in told]),
        examples=_sum([each.examples for each in told]),
        seconds=_sum([each.seconds for each in told]),
        judge=", ".join(dict.fromkeys(each.judge for each in told if each.judge)),
    )


def _sum(values: Sequence[Any]) -> Any:
    return None if None in values else sum(values)


def averaged(seeds: Sequence[Learnt]) -> Learnt:
    """The mean over the seeds of an entry."""
    whole, num = together(seeds), len(seeds)
    drawings, examples = (None if each is None else round(each / num) for each in (whole.drawings, whole.examples))
    seconds = None if whole.seconds is None else whole.seconds / num
    return replace(whole, drawings=drawings, examples=examples, seconds=seconds)


def learnt_in(folder: str | Path) -> Learnt:
    """What a finished run of ``strokes-rl``, ``strokes-sft`` or ``strokes.rl.verifier`` learnt from.

    Raises:
        ValueError: There is no such run, or it is not finished.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file() or not (folder / "metrics.json").is_file():
        raise ValueError(f"Expected training.runs to be folders of finished runs, got {str(folder)!r}.")
    settings, metrics = (json.loads((folder / name).read_text()) for name in ("run.json", "metrics.json"))
    seconds, log = metrics.get("seconds"), folder / "log.jsonl"
    if seconds is None and log.exists():
        seconds = logged_seconds(log)
    if "drawings" in settings:
        judge = _labeller(settings["drawings"]["judge"])
        return Learnt(drawings=metrics.get("drawings"), examples=metrics["examples"], seconds=seconds, judge=judge)
    if "group" in settings:
        drawings = settings["steps"] * settings["prompts"] * settings["group"]
        judge = _rewarder(settings["reward"], settings["judge"])
        if (settings.get("preference") or {}).get("guidance"):
            judge += ", guided by a verifier"
        return Learnt(drawings=drawings, examples=0, seconds=seconds, judge=judge)
    return Learnt(drawings=0, examples=None, seconds=seconds, judge="")


def learnt_by_verifier(adapter: str | Path) -> Learnt:
    """What a verifier learnt from, by the run that its adapter's folder stands in; without that nobody says."""
    try:
        return learnt_in(Path(adapter).parent)
    except ValueError:
        return Learnt(drawings=None, examples=None, seconds=None, judge="labels of a verifier")


def _labeller(judge: str) -> str:
    """Who labelled a verifier's examples."""
    told = {"exact": f"exact, {EVALUATED}", "remote": "a remote judge"}
    return f"labels of the verifier: {told.get(judge, judge)}"


def _rewarder(reward: Mapping[str, Any], judge: Mapping[str, Any]) -> str:
    """Who judges while a policy learns by reinforcement."""
    if reward["target"] is not None:
        return str(reward["target"])
    if reward["name"] == "scene":
        return f"exact, {EVALUATED if reward['outcome'] == 'strict' else reward['outcome']}"
    if reward["name"] == "parm" and reward["critic"] != "remote":
        trained = "" if reward["adapter"] is None else ", trained"
        return f"exact verifier, {EVALUATED}" if reward["critic"] == "exact" else f"own understanding{trained}"
    return {"remote": str(judge["model"]), "exact": "exact critic", "policy": "own understanding"}[reward["critic"]]
