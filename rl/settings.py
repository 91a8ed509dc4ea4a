"""The settings of ``strokes-rl``: ``configs/rl.yaml`` as dataclasses, each checked where it is made."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..agents.bagel.noise import Noise
from ..agents.bagel.sample import Sampling
from ..agents.command import NUMBER, check_choice, check_number
from ..agents.forward_states import times_of
from ..agents.load import sampling_of
from ..agents.lora import Lora
from ..agents.replay import Prefix
from ..envs.scenes.graph import TAGS
from .flow_settings import Flow
from .preference_settings import Preference
from .reward_settings import RewardSettings

SCALES = ("group", "batch", "none")
LOSS_TYPES = ("grpo", "bnpo", "dapo")
"""Of TRL's, those whose normaliser is the tokens at hand; others want a longest completion, which is none here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Learning of words."""

    coef: float
    lr: float
    loss_type: str
    epsilon: float
    epsilon_high: float | None
    beta: float
    temperature: float

    def __post_init__(self) -> None:
        for name in ("coef", "lr", "epsilon", "beta", "temperature"):
            check_number(f"text.{name}", getattr(self, name), 0, NUMBER)
        check_number("text.epsilon_high", self.epsilon_high, 0, (*NUMBER, type(None)))
        check_choice("text.loss_type", self.loss_type, LOSS_TYPES)
        if self.beta and not self.coef:
            raise ValueError(f"Expected text.beta=0 with text.coef=0, of which it is a part, got {self.beta}.")
        if not self.temperature > 0:
            raise ValueError(f"Expected text.temperature above 0 (greedy texts teach nothing), got {self.temperature}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """Which emission is credited with what."""

    name: str
    discount: float
    """Of what later emissions earn, with ``stages``."""
    price: float
    stop_bonus: float
    target: str | None

    def __post_init__(self) -> None:
        for name in ("discount", "price", "stop_bonus"):
            check_number(f"credit.{name}", getattr(self, name), 0, NUMBER)
        check_choice("credit.name", self.name, ("outcome", "stages", "improvement", "custom"))
        if (self.name == "custom") != (self.target is not None):
            raise ValueError(f"Expected credit.target exactly with credit.name=custom, got {self.target!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Who draws, and where."""

    kind: str
    workers: int
    chunk: int
    threads: int
    staleness: int
    address: str | None
    gpus: float

    def __post_init__(self) -> None:
        if self.kind not in ("local", "ray"):
            raise ValueError(f"Expected rollout.kind to be local or ray, got {self.kind!r}.")
        for name, least in (("workers", 1), ("chunk", 1), ("threads", 1), ("staleness", 0)):
            check_number(f"rollout.{name}", getattr(self, name), least)
        check_number("rollout.gpus", self.gpus, 0, NUMBER)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutSettings:
    """What is watched while learning."""

    every: int
    """Generations between two looks; 0: never."""
    limit: int
    num_samples: int
    seed: int
    is_sampled: bool
    """Whether the set is also drawn as the policy learns, at its temperature."""

    def __post_init__(self) -> None:
        for name, least in (("every", 0), ("limit", 1), ("num_samples", 1), ("seed", 0)):
            check_number(f"heldout.{name}", getattr(self, name), least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``configs/rl.yaml``, composed."""

    policy: Mapping[str, Any]
    seed: int
    steps: int
    prompts: int
    group: int
    updates: int
    iterations: int
    micro_batch: int
    tasks: Mapping[str, float] | None
    scale: str
    prefix: Prefix
    lr_schedule: str
    """As transformers names them: constant, linear, cosine, ..."""
    max_grad_norm: float
    gradient_checkpointing: bool
    text: Text
    flow: Flow
    credit: Credit
    preference: Preference | None
    """Pairs in place of groups; ``None``: GRPO, or DiffusionNFT."""
    lora: Lora | None
    reward: RewardSettings
    judge: Mapping[str, Any]
    """Of critics that are remote, see ``rewards.judge_settings``."""
    rollout: Rollout
    heldout: HeldOutSettings
    samples_every: int
    """Generations between two looks at samples: a table and a page of filmstrips."""
    save_every: int
    keep: int
    report_to: Sequence[str]
    num_steps: int
    guidance: float
    size: int
    out: str

    def __post_init__(self) -> None:
        counts = (
            "steps",
            "prompts",
            "updates",
            "iterations",
            "micro_batch",
            "samples_every",
            "save_every",
            "num_steps",
        )
        for name in counts:
            check_number(name, getattr(self, name), 1)
        check_number("keep", self.keep, 2)  # the last one may be cut short by a kill
        check_number("seed", self.seed, 0)
        check_number("guidance", self.guidance, 0, NUMBER)
        check_number("max_grad_norm", self.max_grad_norm, 0, NUMBER)
        if type(self.group) is not int or self.group < 2:
            raise ValueError(f"Expected group to be at least 2 (alone there is no advantage), got {self.group!r}.")
        check_choice("scale", self.scale, SCALES)
        if self.prefix not in ("grad", "detach"):
            raise ValueError(f"Expected prefix to be grad or detach, got {self.prefix!r}.")
        if self.policy.get("adapter"):
            raise ValueError(
                f"Expected no policy.adapter, got {self.policy['adapter']!r}: a run begins with a checkpoint and goes "
                "on with its own adapter when the same command is given on its folder."
            )
        _ = self.sampling  # refuses a window that does not fit the steps
        if not (self.text.coef or self.flow.coef):
            raise ValueError("Expected text.coef or flow.coef above 0, got both 0: nothing would be learnt.")
        gen_learns = self.flow.lr > 0 and (self.lora is None or self.lora.experts != "und")
        if self.text.coef == 0 and self.prefix == "detach" and not gen_learns:
            raise ValueError(
                "Expected something to learn, got no text loss, prefix=detach and a gen expert that is held."
            )
        if self.lora is None and self.dtype != torch.float32:
            raise ValueError(
                f"Expected policy.dtype=float32 where all weights learn (lora=null), got {self.policy['dtype']}: steps "
                "of common learning rates are lost in its rounding."
            )
        if self.preference is not None:
            self._check_preference(self.preference)
        if self.flow.nft is not None:
            self._check_states("flow.nft", self.flow.nft.states)
        if unknown := set(self.tasks or ()) - set(TAGS):
            raise ValueError(f"Expected tasks among {', '.join(TAGS)}, got {', '.join(sorted(unknown))}.")
        if self.prompts * self.group % self.updates:
            raise ValueError(
                f"Expected prompts x group ({self.prompts * self.group} drawings) to be a multiple of updates, got "
                f"{self.updates}."
            )

    def _check_preference(self, preference: Preference) -> None:
        if self.lora is None:
            raise ValueError(
                "Expected lora with preference (the reference is the model without its adapters), got lora=null."
            )
        text, flow = self.text, self.flow
        needed = {
            "updates=1": self.updates == 1,
            "iterations=1": self.iterations == 1,
            "rollout.staleness=0": self.rollout.staleness == 0,
            "credit.name=outcome": self.credit.name == "outcome",
            "text.coef=1": text.coef == 1,
            "text.beta=0": text.beta == 0,
            "text.epsilon_high=null": text.epsilon_high is None,
            "flow.coef=1": flow.coef == 1,
            "flow.form=nats": flow.form == "nats",
            "flow.clip=null": flow.clip is None,
            "flow.regulariser=null": flow.regulariser is None,
        }
        if wrong := [word for word, holds in needed.items() if not holds]:
            raise ValueError(
                f"Expected {', '.join(wrong)} with preference, which has rounds, epochs and a loss of its own and no "
                "use for another value."
            )
        self._check_states("preference", preference.states)
        guidance, latest = preference.guidance, min(times_of(self.sampling))
        if guidance is not None and guidance.below < latest:
            raise ValueError(
                f"Expected preference.guidance.below of at least {latest:.3g}, the latest time at which an image is "
                f"noised with num_steps={self.num_steps}, got {guidance.below}."
            )
        if self.steps % preference.rounds:
            raise ValueError(f"Expected steps to be a multiple of preference.rounds, got {self.steps}.")
        if self.micro_batch % 2:
            raise ValueError(f"Expected an even micro_batch with preference, for pairs, got {self.micro_batch}.")

    def _check_states(self, where: str, states: int) -> None:
        if states > self.num_steps:
            raise ValueError(f"Expected {where}.states of at most num_steps, {self.num_steps}, got {states}.")

    def gradient_accumulation(self, num_processes: int) -> int:
        """Micro-batches of one update in each process.

        Raises:
            ValueError: The drawings of an update cannot be shared out evenly.
        """
        share = self.prompts * self.group // self.updates
        if share % (num_processes * self.micro_batch):
            raise ValueError(
                f"Expected the drawings of an update ({share}) to be a multiple of processes x micro_batch "
                f"({num_processes} x {self.micro_batch}); set micro_batch to a divisor."
            )
        return share // (num_processes * self.micro_batch)

    @property
    def steps_per_generation(self) -> int:
        """Optimizer steps that learn from one generation."""
        return self.updates * self.iterations

    @property
    def sampling(self) -> Sampling:
        """How images are sampled while learning."""
        return sampling_of(self.policy, self.num_steps, self.guidance, self.noise)

    @property
    def noise(self) -> Noise | None:
        """Stochastic steps of images; none where nothing learns from them."""
        return None if self.preference is not None else self.flow.noise

    @property
    def device(self) -> str:
        """Of the model that learns."""
        device = str(self.policy["device"] or ("cuda" if torch.cuda.is_available() else "cpu"))
        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" else device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights that do not learn."""
        dtype = getattr(torch, str(self.policy["dtype"]), None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"Expected policy.dtype to be a dtype such as bfloat16, got {self.policy['dtype']!r}.")
        return dtype
