"""What the cells of the comparison were made with, and that none are set side by side that were made differently.

A cell keeps digests of the settings that it must share with others: the benchmark with all cells, its evaluation and
its training with the other seeds of its method, the verifier's training with whoever asks one, and the verifier itself
with the other cells of its seed.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..agents.load import fingerprint
from ..agents.run_folder import is_free, leaves
from .evaluation_folder import FREE, EvaluationFolder
from .train import FREE as FREE_TRAINING
from .verifier import FREE as FREE_VERIFIER

Cells = Mapping[str, Sequence[Mapping[str, Any]]]
"""Cells by method, one for each seed."""
BENCHMARK = ("benchmark", "detector", "split", "limit", "num_samples", "steps", "guidance", "size")
"""Settings of an evaluation that all cells share."""
WEIGHTS = frozenset(
    {"policy.path", "policy.adapter", "policy.like", "policy.unit", "policy.verifier.path", "policy.verifier.adapter"}
)
"""Settings that say where something is. Which start and which verifier it was is kept beside them."""
DERIVED = frozenset({"checkpoint", "drawings_per_canvas", "verifier_path", "verifier_adapter"})
"""What an evaluation notes beside its settings, which differs from seed to seed."""
LEARNT = frozenset({"policy.path", "reward.adapter", "preference.guidance.adapter"})
"""As ``WEIGHTS``, of training."""


def made_with(evaluation: Path, trained: Path | None, verifier: Path | None) -> dict[str, str | None]:
    """What a cell was made with.

    Args:
        evaluation: Folder of its evaluation.
        trained: Run of its training; ``None``: it has none.
        verifier: Run of the verifier that has a part in it; ``None``: none has.

    Raises:
        ValueError: The evaluation asked another verifier than this one.
    """
    settings = EvaluationFolder(evaluation).settings()
    asked = None if verifier is None else fingerprint(verifier / "adapter")
    if settings.get("verifier_adapter", asked) != asked:
        raise ValueError(
            f"Expected the evaluation in {str(evaluation)!r} to have asked the verifier in {str(verifier)!r}, got "
            "another's answers; take its folder away and it is drawn anew."
        )
    shared = {name: settings[name] for name in BENCHMARK if name in settings}
    return {
        "benchmark": _digest(shared, FREE),
        "evaluation": _digest(settings, FREE | WEIGHTS | DERIVED | {"seed"}),
        "training": None if trained is None else _digest(_run(trained), FREE_TRAINING | LEARNT | {"seed"}),
        "verifier_training": None if verifier is None else _digest(_run(verifier), FREE_VERIFIER | LEARNT | {"seed"}),
        "verifier": asked,
    }


def _run(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text()))


def _digest(settings: Mapping[str, Any], own: Collection[str]) -> str:
    """SHA-256 over the settings, those of ``own`` aside."""
    kept = {key: value for key, value in leaves(settings) if not is_free(key, own)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def check(cells: Cells) -> None:
    """``ValueError`` if cells were made differently, and do not belong into one table."""
    every = [cell for group in cells.values() for cell in group]
    _check_one("start", ((cell, cell["start"]) for cell in every))
    for name in ("benchmark", "verifier_training"):
        _check_one(name, _parts(every, name))
    for group in cells.values():
        for name in ("evaluation", "training"):
            _check_one(name, _parts(group, name))
    for seed in {cell["seed"] for cell in every}:
        _check_one("verifier", _parts([cell for cell in every if cell["seed"] == seed], "verifier"))


def _parts(cells: Iterable[Mapping[str, Any]], name: str) -> Iterable[tuple[Mapping[str, Any], str]]:
    return ((cell, cell["made_with"][name]) for cell in cells if cell["made_with"][name] is not None)


def _check_one(name: str, parts: Iterable[tuple[Mapping[str, Any], str]]) -> None:
    found: dict[str, list[str]] = {}
    for cell, value in parts:
        found.setdefault(value, []).append(f"{cell['method']} {cell['seed']}")
    if len(found) > 1:
        told = "; ".join(", ".join(names) for names in sorted(found.values(), key=len))
        what = name.replace("_", " ")
        raise ValueError(
            f"Expected cells made with one {what}, got {len(found)}: {told}. Take away those of the others."
        )
