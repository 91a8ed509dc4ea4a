"""The settings of ``strokes-data``: ``configs/data.yaml`` as a dataclass, checked where it is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..agents.command import check_number
from .sample import Subset

NUMBER = (int, float)
CHOICES = {
    "multi_turn.backend": ("exact", "real"),
    "conflict.source": ("self-sampled", "symbolic"),
    "alignment.source": ("self-sampled", "corrupted", "genref"),
    "alignment.words": ("reflection", "judge"),
    "alignment.on_bad": ("raise", "skip"),
    "sampler.policy": ("bagel-nano", "bagel-tiny", "bagel"),
}
JUDGING = ("model", "temperature", "seed", "extra_body", "votes", "second_look")
"""Settings of a judge that its verdicts depend on."""
NUMS: Mapping[Subset, int] = {Subset.MULTI_TURN: 32_012, Subset.CONFLICT: 15_201, Subset.ALIGNMENT: 15_000}
"""Samples of each subset in the paper's Table 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``configs/data.yaml``, composed."""

    subset: str
    """A ``Subset``, or "all"."""
    seed: int
    scale: float
    """Share of ``NUMS``."""
    validation: float
    """Share of the scaled numbers that is built on top, for the split of that name."""
    chunk_size: int
    """Samples of a shard."""
    size: int
    """Side of the mini-world's pictures in pixels."""
    multi_turn: Mapping[str, Any]
    conflict: Mapping[str, Any]
    alignment: Mapping[str, Any]
    sampler: Mapping[str, Any]
    """Who self-samples: ``policy``, a name, ``path``, a checkpoint, and how many ``steps`` its sketches take at which
    ``guidance``."""
    judge: Mapping[str, Any]
    """The server of the real back end, see ``rewards.judge_settings``."""
    audit: bool
    """Whether the exact verifier checks every sample."""
    workers: int
    """Ray actors that build; 0: this process does."""
    gpus: float
    """Of each worker."""
    address: str | None
    """Of a Ray cluster; ``None``: Ray is started on this machine."""
    out: str

    def __post_init__(self) -> None:
        if self.subset != "all" and self.subset not in set(Subset):
            raise ValueError(f"Expected subset to be all or one of {', '.join(Subset)}, got {self.subset!r}.")
        for name, least in (("seed", 0), ("chunk_size", 1), ("size", 16), ("workers", 0)):
            check_number(name, getattr(self, name), least)
        for name in ("scale", "validation", "gpus"):
            check_number(name, getattr(self, name), 0, NUMBER)
        if self.scale == 0 or self.size % 16:
            raise ValueError(
                f"Expected scale above 0 and size to be a multiple of 16, got {self.scale} and {self.size}."
            )
        if type(self.audit) is not bool:
            raise ValueError(f"Expected audit to be true or false, got {self.audit!r}.")
        for name, known in CHOICES.items():
            group, key = name.split(".")
            if (value := getattr(self, group)[key]) not in known:
                raise ValueError(f"Expected {name} to be one of {', '.join(known)}, got {value!r}.")
        check_number("multi_turn.detour_rate", self.multi_turn["detour_rate"], 0, NUMBER)
        for temperature in self.conflict["temperatures"]:
            check_number("conflict.temperatures", temperature, 0, NUMBER)
        check_number("conflict.tries", self.conflict["tries"], 1)
        check_number("alignment.tries", self.alignment["tries"], 1)
        check_number("sampler.steps", self.sampler["steps"], 1)
        check_number("sampler.guidance", self.sampler["guidance"], 0, NUMBER)
        if Subset.ALIGNMENT in self.subsets and (self.alignment["source"] == "genref") != bool(self.genref):
            raise ValueError(
                "Expected alignment.genref=[shard.tar,…] with alignment.source=genref and with it alone, got "
                f"{self.alignment['genref']!r} with {self.alignment['source']!r}."
            )

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """What is to be built, in order."""
        return tuple(Subset) if self.subset == "all" else (Subset(self.subset),)

    @property
    def genref(self) -> tuple[Path, ...]:
        """GenRef's tar files."""
        given = self.alignment["genref"] or ()
        return tuple(Path(path).absolute() for path in ([given] if isinstance(given, str) else given))

    def num(self, subset: Subset, split: str) -> int:
        """How many samples a split has; at least one where it has any."""
        share = self.scale * (self.validation if split == "validation" else 1)
        return max(1, round(NUMS[subset] * share)) if share else 0

    def of(self, subset: Subset) -> dict[str, Any]:
        """What decides a subset's samples: another build with the same gives the same ones."""
        names = ["seed", "scale", "validation", "chunk_size", "size"]
        kept: dict[str, Any] = {name: getattr(self, name) for name in names}
        if subset is Subset.MULTI_TURN:
            group = {key: self.multi_turn[key] for key in ("backend", "detour_rate")}
            if group["backend"] == "real":
                group |= {"real": dict(self.multi_turn["real"])}
                kept |= {"judge": {name: self.judge[name] for name in JUDGING}}
            return kept | {"multi_turn": group}
        kept["detour_rate"] = self.multi_turn["detour_rate"]
        is_genref = subset is Subset.ALIGNMENT and self.alignment["source"] == "genref"
        group = dict(self.conflict if subset is Subset.CONFLICT else self.alignment)
        if subset is Subset.CONFLICT:
            known = ["source", "temperatures", "tries"]
        else:
            known = ["source", "genref", "words", "on_bad"] if is_genref else ["source", "tries"]
        if is_genref and group["words"] == "judge":
            kept |= {"judge": {name: self.judge[name] for name in JUDGING}}
        samples = group["source"] == "self-sampled"
        decided = {str(subset): {name: group[name] for name in known}}
        return kept | decided | ({"sampler": dict(self.sampler)} if samples else {})
