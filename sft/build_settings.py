"""The settings of ``strokes-data``: ``configs/data.yaml`` as dataclasses, checked where they are made.

Every default is in that file, with where it comes from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..agents.command import check_number
from ..envs.archive import MAX_SIZE
from .sample import Subset
from .scene_prompts import SPLITS
from .store import OnBad
from .table1 import PAPER

Backend = Literal["exact", "real"]
PlanSource = Literal["self-sampled", "symbolic"]
SketchSource = Literal["self-sampled", "corrupted", "genref"]
Words = Literal["reflection", "judge"]
SamplerName = Literal["bagel-nano", "bagel-tiny", "bagel"]
NUMBER = (int, float)
JUDGING = ("model", "temperature", "seed", "extra_body", "votes", "second_look")
"""Settings of a judge that its verdicts depend on."""
LARGE = 1_000_000
"""More of anything is a mistake."""
MAX_CHUNKS = 100_000
"""Of a split: names of shards have five digits, so that they sort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiTurn:
    """``multi_turn`` of ``configs/data.yaml``."""

    backend: Backend
    detour_rate: float
    """Share of steps that modify, swap, remove or replace; of the critiques' contexts too."""
    real: Mapping[str, Any]
    """Of the real back end, see ``kontext.KontextSettings``, which checks them."""

    def __post_init__(self) -> None:
        _check_choice("multi_turn.backend", self.backend, Backend)
        _check_bounded("multi_turn.detour_rate", self.detour_rate)
        if not isinstance(self.real, Mapping):
            raise ValueError(f"Expected multi_turn.real with the keys of configs/data.yaml, got {self.real!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """``conflict`` of ``configs/data.yaml``."""

    source: PlanSource
    temperatures: Sequence[float]
    """Of sampled plans, one after the other while wrong ones are wanting."""
    tries: int
    """Plans for each sample at each temperature."""

    def __post_init__(self) -> None:
        _check_choice("conflict.source", self.source, PlanSource)
        check_number("conflict.tries", self.tries, 1)
        if not isinstance(self.temperatures, list | tuple) or not self.temperatures:
            raise ValueError(
                f"Expected conflict.temperatures to be numbers such as [1.0, 1.3], got {self.temperatures!r}."
            )
        for temperature in self.temperatures:
            _check_bounded("conflict.temperatures", temperature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """``alignment`` of ``configs/data.yaml``."""

    source: SketchSource
    tries: int
    """Sketches for each sample."""
    genref: Sequence[str] | str | None
    """GenRef's tar files."""
    words: Words
    """Whose inspections of GenRef's pictures."""
    on_bad: OnBad
    """What becomes of GenRef's damaged records."""
    excluded: Sequence[str] | str | None
    """Files of prompts that are left out of GenRef, one a line."""

    def __post_init__(self) -> None:
        _check_choice("alignment.source", self.source, SketchSource)
        _check_choice("alignment.words", self.words, Words)
        _check_choice("alignment.on_bad", self.on_bad, OnBad)
        check_number("alignment.tries", self.tries, 1)
        for name in ("genref", "excluded"):
            given = getattr(self, name)
            if not all(isinstance(path, str) for path in _paths(given)):
                raise ValueError(f"Expected alignment.{name} to be a list of files, got {given!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """``sampler`` of ``configs/data.yaml``: who self-samples."""

    policy: SamplerName
    """A name of ``configs/policy`` that draws in strokes."""
    path: str | None
    """Its checkpoint; ``None``: the one that ships."""
    steps: int
    """Of a sketch."""
    guidance: float

    def __post_init__(self) -> None:
        _check_choice("sampler.policy", self.policy, SamplerName)
        check_number("sampler.steps", self.steps, 1)
        _check_bounded("sampler.guidance", self.guidance)
        if self.path is not None and not isinstance(self.path, str):
            raise ValueError(f"Expected sampler.path to be the folder of a checkpoint, got {self.path!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``configs/data.yaml``, composed."""

    subset: str
    """A ``Subset``, or "all"."""
    seed: int
    scale: float
    """Share of the numbers of the paper's Table 1."""
    validation: float
    """Share of the scaled numbers that is built on top, for the split of that name."""
    chunk_size: int
    """Samples of a shard."""
    size: int
    """Side of the mini-world's pictures in pixels."""
    multi_turn: MultiTurn
    conflict: Conflict
    alignment: Alignment
    sampler: Sampler
    judge: Mapping[str, Any]
    """The server of the real back end, see ``rewards.judge_settings``, which checks it."""
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
        for name in ("multi_turn", "conflict", "alignment", "sampler", "judge"):
            if getattr(self, name) is None:
                raise ValueError(f"Expected {name} with the keys of configs/data.yaml, got null.")
        if self.subset != "all" and self.subset not in set(Subset):
            raise ValueError(f"Expected subset to be all or one of {', '.join(Subset)}, got {self.subset!r}.")
        for name, least in (("seed", 0), ("chunk_size", 1), ("size", 16), ("workers", 0)):
            check_number(name, getattr(self, name), least)
        for name in ("scale", "validation", "gpus"):
            _check_bounded(name, getattr(self, name))
        if self.seed >= 2**63:
            raise ValueError(f"Expected seed below 2**63, for a row keeps 64 bits of it, got {self.seed}.")
        if self.scale == 0 or self.size % 16 or self.size > MAX_SIZE:
            got = f"{self.scale} and {self.size}"
            raise ValueError(
                f"Expected scale above 0 and size to be a multiple of 16 of at most {MAX_SIZE}, got {got}."
            )
        if type(self.audit) is not bool:
            raise ValueError(f"Expected audit to be true or false, got {self.audit!r}.")
        if self.address is not None and not isinstance(self.address, str):
            raise ValueError(f"Expected address to be that of a Ray cluster, or null, got {self.address!r}.")
        self._check_subsets()

    def _check_subsets(self) -> None:
        """What several settings say together."""
        most = max(self.num(subset, split) for subset in self.subsets for split in SPLITS)
        if most > MAX_CHUNKS * self.chunk_size:
            raise ValueError(
                f"Expected at most {MAX_CHUNKS:,} shards of chunk_size={self.chunk_size}, got {most:,} samples; "
                "lower scale, or take a larger chunk_size."
            )
        given = self.alignment.genref
        if Subset.ALIGNMENT in self.subsets and (self.alignment.source == "genref") != bool(given):
            raise ValueError(
                "Expected alignment.genref=[shard.tar,…] with alignment.source=genref and with it alone, got "
                f"{given!r} with {self.alignment.source!r}."
            )

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """What is to be built, in order."""
        return tuple(Subset) if self.subset == "all" else (Subset(self.subset),)

    @property
    def genref(self) -> tuple[Path, ...]:
        """GenRef's tar files."""
        return tuple(map(Path, _paths(self.alignment.genref)))

    @property
    def excluded(self) -> tuple[Path, ...]:
        """Files of prompts that are left out of GenRef."""
        return tuple(map(Path, _paths(self.alignment.excluded)))

    def num(self, subset: Subset, split: str) -> int:
        """How many samples a split has; at least one where it has any."""
        share = self.scale * (self.validation if split == "validation" else 1)
        return max(1, round(PAPER[subset]["total"] * share)) if share else 0

    def absolute(self) -> "Settings":
        """The same from any working directory, such as that of a Ray actor."""
        files = ("path", "objects", "attributes", "relations")
        real = {**self.multi_turn.real} | {k: _absolute(v) for k, v in self.multi_turn.real.items() if k in files}
        alignment = {name: _absolute(getattr(self.alignment, name)) for name in ("genref", "excluded")}
        return replace(
            self,
            multi_turn=replace(self.multi_turn, real=real),
            alignment=replace(self.alignment, **alignment),
            sampler=replace(self.sampler, path=_absolute(self.sampler.path)),
        )

    def of(self, subset: Subset) -> dict[str, Any]:
        """What decides a subset's samples: another build with the same gives the same ones."""
        kept = _some(self, "seed", "scale", "validation", "chunk_size", "size")
        judge = {name: self.judge[name] for name in JUDGING}
        if subset is Subset.MULTI_TURN:
            if self.multi_turn.backend == "real":
                return kept | {"judge": judge, "multi_turn": asdict(self.multi_turn)}
            return kept | {"multi_turn": _some(self.multi_turn, "backend", "detour_rate")}
        kept["detour_rate"] = self.multi_turn.detour_rate
        if subset is Subset.CONFLICT:
            source: str = self.conflict.source
            kept["conflict"] = _some(self.conflict, "source", "temperatures", "tries")
        elif (source := self.alignment.source) == "genref":
            kept["alignment"] = _some(self.alignment, "source", "genref", "words", "on_bad", "excluded")
            kept |= {"judge": judge} if self.alignment.words == "judge" else {}
        else:
            kept["alignment"] = _some(self.alignment, "source", "tries")
        return kept | ({"sampler": asdict(self.sampler)} if source == "self-sampled" else {})


def _some(group: Any, *names: str) -> dict[str, Any]:
    assert set(names) <= {field.name for field in fields(group)}
    return {name: getattr(group, name) for name in names}


def _paths(given: Any) -> Sequence[Any]:
    """A list of files, of which one may be given by itself."""
    if given is None:
        return ()
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def _absolute(given: Any) -> Any:
    """A path, or a list of them; what is none is left to who checks it."""
    if isinstance(given, list | tuple):
        return tuple(_absolute(path) for path in given)
    return str(Path(given).absolute()) if isinstance(given, str) else given


def _check_choice(name: str, value: Any, known: Any) -> None:
    if value not in get_args(known):
        raise ValueError(f"Expected {name} to be one of {', '.join(get_args(known))}, got {value!r}.")


def _check_bounded(name: str, value: Any) -> None:
    check_number(name, value, 0, NUMBER)
    if value > LARGE:
        raise ValueError(f"Expected {name} to be a number of at most {LARGE:,}, got {value!r}.")
