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
    samples: int | None = None
    """Drawings, or examples, that it learnt from."""
    seconds: float | None = None
    """Wall time."""
    judge: str | None = None
    """Who judged."""

    def __post_init__(self) -> None:
        if isinstance(self.runs, str):
            raise ValueError(f"Expected training.runs to be a list of folders, got {self.runs!r}.")
        check_number("training.samples", self.samples, 0, (int, type(None)))
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
        """The entries, each after the one whose cost it matches, else in their order.

        Raises:
            ValueError: No entry, one that matches itself in the end, or one that matches nobody there.
        """
        names = self.entries if self.only is None else self.only
        given = {name: Entry.read(name, self.entries[name]) for name in names}
        if not given:
            raise ValueError("Expected at least one entry to compare, got none.")
        found: dict[str, Entry] = {}
        for name in given:
            for each in reversed(_chain(name, given)):
                found[each] = given[each]
        return found


def _chain(name: str, entries: Mapping[str, Entry]) -> list[str]:
    """The entry, the one it matches, the one that that one matches, and so on."""
    chain = [name]
    while (like := entries[chain[-1]].like) is not None:
        if like not in entries:
            raise ValueError(
                f"Expected entries.{chain[-1]}.like among the entries compared ({', '.join(entries)}), got {like!r}."
            )
        if like in chain:
            raise ValueError(f"Expected entries.{name}.like to come to an end, got {' -> '.join([*chain, like])}.")
        chain.append(like)
    return chain
