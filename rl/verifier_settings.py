"""The settings of ``python -m strokes.rl.verifier``: ``configs/verifier.yaml`` as dataclasses, checked where made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..agents.bagel.sample import Sampling
from ..agents.command import check_number
from ..agents.load import checkpoint_of, placing, sampling_of
from ..agents.lora import Lora
from ..agents.searches import PAINTERS

NUMBER = (int, float)
POLICIES = ("bagel", "bagel-tiny", "bagel-nano", "one-shot")
"""Policies with an understanding of their own that may become the verifier."""
JUDGES = ("exact", "remote")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawings:
    """What the examples are made of."""

    scale: float
    """Of the paper's numbers of examples."""
    prompts: int
    members: int
    """Drawings of each prompt by each painter."""
    painters: Sequence[str]
    """Ways in which the policy draws, among ``PAINTERS``."""
    temperature: float
    """Of the words of a painter in strokes."""
    flow_steps: Sequence[int]
    """Sampling steps after which an image is estimated and looked at, from 1."""
    test: float
    """Share of prompts that are set aside for the report."""
    validation: float
    """Share of prompts that are set aside for choosing settings."""
    report: int
    """Most examples of each question in either of these parts, at their natural rate."""
    judge: str
    """Who labels: exact or remote, or 'module:name' of a ``Verifier`` of your own."""
    chunk: int
    """Drawings of one batch."""
    threads: int
    """Of torch while drawing."""

    def __post_init__(self) -> None:
        for name in ("prompts", "chunk", "threads", "report"):
            check_number(f"drawings.{name}", getattr(self, name), 1)
        check_number("drawings.members", self.members, 2)  # examples are taken in pairs of one prompt
        for name in ("scale", "temperature", "test", "validation"):
            check_number(f"drawings.{name}", getattr(self, name), 0, NUMBER)
        if not 0 < self.test < 1 - self.validation:
            raise ValueError(
                "Expected drawings.test and drawings.validation to be shares that leave something to learn from, got "
                f"{self.test!r} and {self.validation!r}."
            )
        if not self.painters or len(set(self.painters)) < len(self.painters) or set(self.painters) - set(PAINTERS):
            raise ValueError(f"Expected drawings.painters among {', '.join(PAINTERS)}, got {list(self.painters)!r}.")
        if self.judge not in JUDGES and ":" not in str(self.judge):
            raise ValueError(
                f"Expected drawings.judge among {', '.join(JUDGES)}, or 'module:name' of your own, got {self.judge!r}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``configs/verifier.yaml``, composed."""

    policy: Mapping[str, Any]
    judge: Mapping[str, Any]
    """The server of a remote judge, see ``rewards.judge_settings``."""
    drawings: Drawings
    data: str | None
    """Folder of data that another run has made; ``None``: they are drawn here."""
    seed: int
    epochs: int
    batch: int
    """Examples of a step."""
    micro_batch: int
    """Examples of one forward."""
    lr: float
    lr_schedule: str
    """As transformers names them."""
    warmup: float
    """Share of the steps."""
    weight_decay: float
    max_grad_norm: float
    lora: Lora
    log_every: int
    save_every: int
    keep: int
    report_to: Sequence[str]
    num_steps: int
    guidance: float
    size: int
    out: str

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "micro_batch", "log_every", "save_every", "num_steps"):
            check_number(name, getattr(self, name), 1)
        check_number("seed", self.seed, 0)
        check_number("keep", self.keep, 2)  # the last one may be cut short by a kill
        for name in ("lr", "weight_decay", "max_grad_norm", "guidance", "warmup"):
            check_number(name, getattr(self, name), 0, NUMBER)
        if self.policy["name"] not in POLICIES:
            raise ValueError(
                f"Expected a policy whose own understanding can learn to judge ({', '.join(POLICIES)}), got "
                f"{self.policy['name']!r}."
            )
        if self.batch % self.micro_batch:
            raise ValueError(
                f"Expected batch to be a multiple of micro_batch, got {self.batch} and {self.micro_batch}."
            )
        late = [step for step in self.drawings.flow_steps if type(step) is not int or not 1 <= step < self.num_steps]
        if late or list(self.drawings.flow_steps) != sorted(set(self.drawings.flow_steps)):
            raise ValueError(
                f"Expected drawings.flow_steps in order, from 1 to num_steps - 1 ({self.num_steps - 1}), got "
                f"{list(self.drawings.flow_steps)!r}."
            )
        if self.lora.experts == "gen":
            raise ValueError("Expected lora.experts=und or both, got gen: no image is drawn here that it would draw.")
        _ = self.sampling, placing(self.policy), checkpoint_of(self.policy)

    def painter(self, name: str) -> dict[str, Any]:
        """Settings of the policy that draws as one of ``drawings.painters`` does, all with the same weights."""
        in_strokes = "bagel-tiny" if self.policy["name"] == "one-shot" else self.policy["name"]
        return {
            **self.policy,
            "name": "one-shot" if name == "one-shot" else in_strokes,
            "path": str(checkpoint_of(self.policy)),  # what ships differs from name to name
            "temperature": self.drawings.temperature,
        }

    @property
    def sampling(self) -> Sampling:
        """How images are drawn."""
        return sampling_of(self.policy, self.num_steps, self.guidance)
