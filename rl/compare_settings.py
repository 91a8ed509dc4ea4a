"""The settings of ``strokes-compare``: ``configs/compare.yaml`` as dataclasses, checked where they are made."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..agents.command import NUMBER, check_number, nested

NAME = re.compile(r"\w[\w.+-]*")
SEED = "{seed}"
"""Stands for the seed in the options and runs of an entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What an entry learnt from, beyond the checkpoint that all entries share. What is said adds to what runs tell."""

    runs: Sequence[str] = ()
    """Folders of ``strokes-rl``, ``strokes-sft`` or ``strokes.rl.verifier``, which tell it themselves."""
    drawings: int | None = None
    """Drawings made for it, and judged."""
    examples: int | None = None
    """Labelled ones that it learnt from, of a verifier or by supervision."""
    seconds: float | None = None
    """Wall time."""
    judge: str | None = None
    """Who judged."""

    def __post_init__(self) -> None:
        if isinstance(self.runs, str):
            raise ValueError(f"Expected training.runs to be a list of folders, got {self.runs!r}.")
        for name in ("drawings", "examples"):
            check_number(f"training.{name}", getattr(self, name), 0, (int, type(None)))
        check_number("training.seconds", self.seconds, 0, (*NUMBER, type(None)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One way to draw, compared with the others."""

    policy: str | None = None
    """A file of ``configs/policy``, drawing with the weights and the sampling that all share; ``None``: who draws for
    all, as it is."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Over that file: an adapter, a search's n, its verifier."""
    like: str | None = None
    """The entry whose cost is matched, task by task and seed by seed: a search gets its n from there."""
    unit: str | None = None
    """With ``like``, the entry that tells what one drawing costs: who draws for the search, or the same search with
    some n; ``None``: one image."""
    heeds_refine: bool = True
    """Whether inspections may ask for corrections."""
    training: Training | None = None
    """``None``: it learnt nothing more."""

    @classmethod
    def read(cls, name: str, given: Any) -> "Entry":
        """The entry of a mapping; what is left out has its default.

        Raises:
            ValueError: A name that is none for a folder, an unknown key, or a value of the wrong type.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"Expected names of entries to be those of folders, got {name!r}.")
        values = _filled(cls, given, f"entries.{name}")
        if values["training"] is not None:
            values["training"] = _filled(Training, values["training"], f"entries.{name}.training")
        if not isinstance(values["options"], Mapping):
            raise ValueError(f"Expected entries.{name}.options to be settings, got {values['options']!r}.")
        return nested(cls, values, "compare", f"entries.{name}.")

    def references(self) -> dict[str, str]:
        """The entries that this one needs the evaluations of, by what for."""
        named = {"like": self.like, "unit": self.unit}
        return {key: name for key, name in named.items() if name is not None}


def _filled(kind: type[Any], given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(f"Expected {where} with the keys of configs/compare.yaml, got {given!r}.")
    default = kind()
    return {**{name: getattr(default, name) for name in kind.__slots__}, **given}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``configs/compare.yaml``, composed."""

    policy: Mapping[str, Any]
    """Who draws: the checkpoint and the sampling of all entries."""
    benchmark: Mapping[str, Any]
    detector: Mapping[str, Any]
    judge: Mapping[str, Any]
    """The server of remote judges, see ``rewards.judge_settings``."""
    entries: Mapping[str, Any]
    verifier: str | None
    """Folder of a trained verifier's adapter, which all searches with a verifier then ask; ``None``: whom they say."""
    only: Sequence[str] | None
    """Names of the entries to draw and to show; ``None``: all."""
    seeds: Sequence[int]
    """Of the evaluations: each entry is drawn once for each, all with the same noise."""
    split: str
    limit: int | None
    num_samples: int
    batch: int
    threads: int | None
    workers: int
    gpus: float
    address: str | None
    out: str

    def __post_init__(self) -> None:
        seeds = self.seeds
        if isinstance(seeds, str) or not isinstance(seeds, Sequence) or not seeds or len(set(seeds)) != len(seeds):
            raise ValueError(f"Expected seeds to be a list of different integers, at least one, got {seeds!r}.")
        for seed in seeds:
            check_number("seeds", seed, 0)
        if isinstance(self.only, str) or (self.only is not None and set(self.only) - set(self.entries)):
            raise ValueError(f"Expected only to list entries ({', '.join(self.entries)}), got {self.only!r}.")
        _ = self.ordered()

    def ordered(self) -> dict[str, Entry]:
        """The entries, each after those that it refers to, else in their order.

        Raises:
            ValueError: No entry, one that refers to itself in the end, or one that refers to nobody there.
        """
        names = self.entries if self.only is None else self.only
        given = {name: Entry.read(name, self.entries[name]) for name in names}
        if not given:
            raise ValueError("Expected at least one entry to compare, got none.")
        found: dict[str, Entry] = {}
        for name in given:
            _place(name, given, found, [])
        return found


def _place(name: str, entries: Mapping[str, Entry], found: dict[str, Entry], waiting: Sequence[str]) -> None:
    """Put an entry into ``found``, after those that it refers to."""
    if name in waiting:
        raise ValueError(
            f"Expected entries.{waiting[0]} to wait for others alone, got {' -> '.join([*waiting, name])}."
        )
    if name in found:
        return
    for key, other in entries[name].references().items():
        if other not in entries:
            raise ValueError(
                f"Expected entries.{name}.{key} among the entries compared ({', '.join(entries)}), got {other!r}."
            )
        _place(other, entries, found, [*waiting, name])
    found[name] = entries[name]
