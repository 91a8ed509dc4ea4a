"""The settings of ``strokes-rl`` under ``flow``: how images are learnt from."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..agents.bagel.flow import Kernel
from ..agents.bagel.noise import Noise, Window
from ..agents.command import NUMBER, check_choice, check_number
from .average import DECAYS
from .loss import CLIPS, Regulariser


@dataclass(frozen=True, slots=True, kw_only=True)
class Nft:
    """Learning on the forward process, see ``rl.forward`` and ``rl.average``."""

    mix: float
    states: int
    """Of each image."""
    schedule: int

    def __post_init__(self) -> None:
        check_number("flow.nft.states", self.states, 1)
        check_number("flow.nft.mix", self.mix, 0, NUMBER)
        if self.mix == 0:
            raise ValueError("Expected flow.nft.mix above 0, got 0: the loss is divided by it.")
        if self.schedule not in DECAYS:
            raise ValueError(f"Expected flow.nft.schedule among {', '.join(map(str, DECAYS))}, got {self.schedule!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Learning of images."""

    coef: float
    lr: float
    form: str
    clip: float | None
    regulariser: Regulariser | None
    beta: float
    nft: Nft | None
    kernel: Kernel
    eta: float
    window: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name in ("coef", "lr", "beta", "eta"):
            check_number(f"flow.{name}", getattr(self, name), 0, NUMBER)
        check_number("flow.clip", self.clip, 0, (*NUMBER, type(None)))
        check_choice("flow.form", self.form, (*CLIPS, "nft"))
        if self.beta and not self.coef:
            raise ValueError(f"Expected flow.beta=0 with flow.coef=0, of which it is a part, got {self.beta}.")
        if (self.beta > 0) != (self.regulariser is not None):
            raise ValueError(
                f"Expected flow.beta above 0 exactly with a regulariser, got {self.beta} with {self.regulariser!r}."
            )
        if (self.form == "nft") != (self.nft is not None):
            raise ValueError(
                f"Expected flow.nft, a block with {', '.join(field.name for field in fields(Nft))}, exactly with "
                f"flow.form=nft, got {self.form!r} with {self.nft!r}; see configs/experiment/nft.yaml."
            )
        if self.nft is not None and (self.clip is not None or self.regulariser == "kl"):
            raise ValueError(
                "Expected neither flow.clip nor flow.regulariser=kl with flow.form=nft, which has no densities, got "
                f"{self.clip!r} and {self.regulariser!r}."
            )
        if unknown := set(self.window) - {field.name for field in fields(Window)}:
            raise ValueError(
                f"Expected flow.window with the keys of configs/rl.yaml, got {', '.join(sorted(unknown))}."
            )

    @property
    def noise(self) -> Noise | None:
        """Stochastic steps; none where nothing learns from them."""
        if self.coef == 0 or self.nft is not None:
            return None
        return Noise(kernel=self.kernel, eta=self.eta, window=Window(**self.window))
