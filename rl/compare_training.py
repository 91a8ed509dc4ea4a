"""What entries of a comparison learnt from, beyond the checkpoint that they share: as runs tell it, or as it is said.

Samples are drawings that a judge saw (reinforcement learning, preferences) or labelled examples (of a verifier): what
the paper counts when it holds PARM's 688K against its own 62K (arXiv 2604.04746, table 4).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from .compare_settings import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What was learnt from."""

    samples: int | None
    """``None``: nobody says."""
    seconds: float | None
    """Wall time of learning, and of drawing for it where both take turns; ``None``: nobody says."""
    judge: str
    """Who judged; "": nobody, or nobody says."""


NOTHING = Learnt(samples=0, seconds=0.0, judge="")
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
    if not told or (training.samples, training.seconds, training.judge) != (None, None, None):
        told.append(Learnt(samples=training.samples, seconds=training.seconds, judge=training.judge or ""))
    return together(told)


def together(parts: Iterable[Learnt]) -> Learnt:
    """The sum; of what is not known of one part, nothing is known."""
    told = list(parts)
    samples, seconds = [each.samples for each in told], [each.seconds for each in told]
    return Learnt(
        samples=None if None in samples else sum(each for each in samples if each is not None),
        seconds=None if None in seconds else sum(each for each in seconds if each is not None),
        judge=", ".join(dict.fromkeys(each.judge for each in told if each.judge)),
    )


def averaged(seeds: Sequence[Learnt]) -> Learnt:
    """The mean over the seeds of an entry."""
    whole = together(seeds)
    samples = None if whole.samples is None else round(whole.samples / len(seeds))
    return replace(whole, samples=samples, seconds=None if whole.seconds is None else whole.seconds / len(seeds))


def learnt_in(folder: str | Path) -> Learnt:
    """What a finished run of ``strokes-rl``, ``strokes-sft`` or ``strokes.rl.verifier`` learnt from.

    Raises:
        ValueError: There is no such run, or it is not finished.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file() or not (folder / "metrics.json").is_file():
        raise ValueError(f"Expected training.runs to be folders of finished runs, got {str(folder)!r}.")
    settings, metrics = (json.loads((folder / name).read_text()) for name in ("run.json", "metrics.json"))
    seconds = metrics["seconds"] if "seconds" in metrics else _seconds(folder / "log.jsonl")
    if "drawings" in settings:
        return Learnt(samples=metrics["examples"], seconds=seconds, judge=_labeller(settings["drawings"]["judge"]))
    if "group" in settings:
        drawings = settings["steps"] * settings["prompts"] * settings["group"]
        judge = _rewarder(settings["reward"], settings["judge"])
        if (settings.get("preference") or {}).get("guidance"):
            judge += ", guided by its own understanding"
        return Learnt(samples=drawings, seconds=seconds, judge=judge)
    return Learnt(samples=None, seconds=seconds, judge="")


def _labeller(judge: str) -> str:
    """Who labelled a verifier's examples."""
    return f"labels of the verifier: {'a remote judge' if judge == 'remote' else judge}"


def _rewarder(reward: Mapping[str, Any], judge: Mapping[str, Any]) -> str:
    """Who judges while a policy learns by reinforcement."""
    if reward["target"] is not None:
        return str(reward["target"])
    if reward["name"] == "scene":
        return f"exact, {reward['outcome']}"
    if reward["name"] == "parm" and reward["critic"] != "remote":
        trained = "" if reward["adapter"] is None else ", trained"
        return "exact verifier (oracle)" if reward["critic"] == "exact" else f"own understanding{trained}"
    return {"remote": str(judge["model"]), "exact": "exact critic", "policy": "own understanding"}[reward["critic"]]


def _seconds(log: Path) -> float | None:
    """Wall time of a run, over all processes that had a part in it: each one's last line."""
    if not log.exists():
        return None
    times = [json.loads(line)["seconds"] for line in log.read_text().splitlines()]
    ends = [before for before, after in pairwise([*times, -1.0]) if after < before]
    return float(sum(ends))
