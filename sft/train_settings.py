"""The settings of ``strokes-sft``: ``configs/sft.yaml`` as dataclasses, each checked where it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ..agents.command import NUMBER, check_choice, check_number
from ..agents.lora import Lora
from .packing import OnLong
from .sources import Latents, Reading, View
from .store import OnBad

PRECISIONS = ("fp32", "bf16")
ATTENTIONS = ("sdpa", "flex_attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What learns."""

    init: str
    """Folder of a checkpoint, or the name of one that ships; ``bagel-7b`` for a dry run without weights."""
    timestep_shift: float | None
    """This and the rest; ``None``: as the checkpoint has it."""
    vae_transform: Sequence[int] | None
    vit_transform: Sequence[int] | None
    attention: str

    def __post_init__(self) -> None:
        check_number("model.timestep_shift", self.timestep_shift, 0, (*NUMBER, type(None)))
        check_choice("model.attention", self.attention, ATTENTIONS)
        for name in ("vae_transform", "vit_transform"):
            sizes = getattr(self, name)
            if sizes is not None and (len(sizes) != 3 or any(type(size) is not int for size in sizes)):
                raise ValueError(
                    f"Expected model.{name} as three integers, the largest side, the smallest one and the stride, got "
                    f"{sizes!r}."
                )


AT_ONCE = "at_once"
"""Name, under ``data``, of what is learnt at once whatever the ``view``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetSettings:
    """One subset of the data."""

    path: str | None
    """Folder of its shards; ``None``: left out."""
    share: float | None
    """Of the samples drawn, in any unit; ``None``: as many as there are."""

    def __post_init__(self) -> None:
        check_number("share", self.share, 0, (*NUMBER, type(None)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """What is learnt."""

    multi_turn: SubsetSettings
    conflict: SubsetSettings
    alignment: SubsetSettings
    at_once: SubsetSettings
    """Of a data set like ``multi_turn``, whose drawings are finished: last images, from the prompt at once."""
    copies: int
    """Noisy copies of each image."""
    drop_last_text: float
    drop_all: float
    changed_weight: float
    latents: Latents
    resize: bool
    on_long: OnLong
    on_bad: OnBad
    cache: str | None

    def __post_init__(self) -> None:
        check_number("data.copies", self.copies, 1)
        for name in ("drop_last_text", "drop_all", "changed_weight"):
            check_number(f"data.{name}", getattr(self, name), 0, NUMBER)
        if self.drop_last_text + self.drop_all > 1:
            raise ValueError(
                f"Expected data.drop_last_text and data.drop_all of at most 1 together, got {self.drop_last_text} and "
                f"{self.drop_all}."
            )
        for name, kind in (("latents", Latents), ("on_long", OnLong), ("on_bad", OnBad)):
            check_choice(f"data.{name}", getattr(self, name), get_args(kind))
        if self.latents == "forward" and self.changed_weight:
            raise ValueError(
                f"Expected data.changed_weight=0 with data.latents=forward, got {self.changed_weight}: what changed is "
                "told by the latents."
            )
        if not self.subsets:
            raise ValueError("Expected the path of at least one subset under data, got none; make them: strokes-data.")
        if set(self.subsets) == {AT_ONCE}:
            raise ValueError(
                f"Expected a subset beside data.at_once, got {self.at_once.path!r} alone; to learn nothing but drawing "
                "at once, give it as data.multi_turn.path, with view=final."
            )
        given = {name for name, subset in self.subsets.items() if subset.share is not None}
        if given and given != set(self.subsets):
            raise ValueError(
                f"Expected a share for every subset that is learnt ({', '.join(self.subsets)}) or for none, got shares "
                f"for {', '.join(sorted(given))}."
            )

    @property
    def subsets(self) -> dict[str, SubsetSettings]:
        """Those that are learnt, by name."""
        every = {name: getattr(self, name) for name in ("multi_turn", "conflict", "alignment", AT_ONCE)}
        return {name: subset for name, subset in every.items() if subset.path is not None}

    @property
    def shares(self) -> list[float] | None:
        """Of the subsets; ``None``: as many samples as there are."""
        shares = [subset.share for subset in self.subsets.values()]
        return None if None in shares else [float(share) for share in shares if share is not None]

    def reading(self, view: View) -> Reading:
        """How the data sets are read."""
        cache = None if self.cache is None else Path(self.cache)
        return Reading(view=view, latents=self.latents, resize=self.resize, on_bad=self.on_bad, cache=cache)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """What is looked at while learning."""

    every: int
    """Steps between two looks; 0: never."""
    packs: int
    """Of the validation split, at most."""
    heldout: int
    """Held-out tasks of each kind that are drawn; 0: none."""
    shown: int
    """Of these on the filmstrip."""

    def __post_init__(self) -> None:
        for name in ("every", "packs", "heldout", "shown"):
            check_number(f"evaluation.{name}", getattr(self, name), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``configs/sft.yaml``, composed."""

    model: ModelSettings
    policy: Mapping[str, Any]
    """How held-out tasks are drawn; its checkpoint is not used."""
    view: View
    data: DataSettings
    seed: int
    steps: int
    tokens: int
    """Budget of a pack."""
    packs: int
    """Of a step, over all processes."""
    row_length: int | None
    lr: float
    lr_schedule: str
    """As transformers names them."""
    lr_options: Mapping[str, Any]
    """What the schedule takes beside the steps."""
    warmup: int
    betas: Sequence[float]
    eps: float
    weight_decay: float
    clip: float
    ema: float
    ce_weight: float
    lora: Lora | None
    precision: str
    gradient_checkpointing: bool
    fsdp: bool
    device: str | None
    evaluation: EvaluationSettings
    log_every: int
    save_every: int
    keep: int
    workers: int
    """Processes that make packs, beside each that learns; 0: none."""
    report_to: Sequence[str]
    dry_run: bool
    gpus: int
    """That a dry run reckons with."""
    out: str

    def __post_init__(self) -> None:
        for name in ("steps", "tokens", "packs", "log_every", "save_every", "gpus"):
            check_number(name, getattr(self, name), 1)
        check_number("keep", self.keep, 2)  # the last one may be cut short by a kill
        for name in ("seed", "warmup", "workers"):
            check_number(name, getattr(self, name), 0)
        for name in ("lr", "eps", "weight_decay", "clip", "ema", "ce_weight"):
            check_number(name, getattr(self, name), 0, NUMBER)
        check_number("row_length", self.row_length, 1, (int, type(None)))
        check_choice("view", self.view, get_args(View))
        if self.view == "final" and self.data.at_once.path is not None:
            raise ValueError(
                f"Expected data.at_once.path=null with view=final, where all data are learnt at once, got "
                f"{self.data.at_once.path!r}."
            )
        check_choice("precision", self.precision, PRECISIONS)
        if not self.ema < 1:
            raise ValueError(f"Expected ema below 1, got {self.ema}.")
        if self.fsdp and self.evaluation.heldout and self.evaluation.every:
            raise ValueError(
                "Expected evaluation.heldout=0 with fsdp, got "
                f"{self.evaluation.heldout}: a model in shards does not draw; evaluate its checkpoint instead."
            )
        if self.fsdp and self.lora is not None:
            raise ValueError(
                "Expected fsdp=false with lora, got true: adapters are small, and what is frozen is bfloat16; or train "
                "all weights with lora=null."
            )

    def accumulation(self, processes: int) -> int:
        """Packs of a step in each process.

        Raises:
            ValueError: They cannot be shared out evenly.
        """
        if self.packs % processes:
            raise ValueError(f"Expected packs to be a multiple of the {processes} processes, got {self.packs}.")
        return self.packs // processes
