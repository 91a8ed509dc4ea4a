"""Learning: what the joint objective adds to TRL's settings, who watches, and which weights learn at which rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from ..agents.bagel.layers import GEN
from ..agents.replay import Replayed, Replayer
from ..agents.trajectory import Trajectory
from .advantage import CreditRule
from .loss import FlowLoss, Steps

if TYPE_CHECKING:
    from .average import Average


class Observer(Protocol):
    """Watches what is drawn."""

    def on_rollouts(
        self, step: int, trajectories: Sequence[Trajectory], credits: Sequence[np.ndarray]
    ) -> Mapping[str, float]:
        """A generation of this process, with the advantages of its emissions, float32 (emissions,) each.

        Returns:
            Figures for the log, by name; may be empty.
        """
        ...


class FlowShare(Protocol):
    """What images add to the objective: ``rl.loss.FlowObjective`` or ``rl.forward.ForwardObjective``."""

    @property
    def needs_behaviour(self) -> bool:
        """Whether the weights that drew have to be replayed, even those of the moment."""
        ...

    @property
    def needs_reference(self) -> bool:
        """Whether the reference has to be replayed."""
        ...

    def num_learnt(self, trajectory: Trajectory, credit: np.ndarray) -> int:
        """Steps or states of a trajectory that are learnt from; ``credit`` is NaN where there is no verdict."""
        ...

    def replay(self, replayer: Replayer, model: nn.Module, trajectories: Sequence[Trajectory]) -> list[Replayed]:
        """One packed forward of all trajectories."""
        ...

    def loss(
        self,
        trajectories: Sequence[Trajectory],
        now: Steps,
        old: Steps | None,
        advantages: Tensor,
        reference: Steps | None,
    ) -> FlowLoss:
        """The loss of all their steps or states, with advantages (NaN: no verdict) and replays of each."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """What the joint objective adds to TRL's settings."""

    credit: CreditRule
    objective: FlowShare
    average: "Average | None" = None
    """Draws in place of what is learnt."""
    text_coef: float = 1.0
    """Factor on TRL's text loss; 0 trains images alone."""
    flow_coef: float = 1.0
    """Factor on the flow loss; 0 trains texts alone."""
    gen_learning_rate: float | None = None
    """Of the gen expert (and what embeds latents); ``None``: that of the und expert, ``args.learning_rate``."""
    chunk_size: int = 16
    """Episodes drawn as one batch; see ``agents.rollout``."""
    max_staleness: int = 0
    """Generations that rollouts may be ahead of the weights they are trained with: 0 is synchronous. The next
    generations are admitted early, with the weights of that moment; none is ever discarded."""
    max_missing: float = 1.0
    """Share of a generation's emissions that may be without credit because a verdict is missing; beyond it training
    stops, to be gone on with when the judge is mended."""
    observers: Sequence[Observer] = ()
    """Told of every generation."""


def check_learnable(args: TrainingArguments, *, group: int, is_held: bool, has_adapters: bool) -> None:
    """``ValueError`` where nothing could be learnt with such settings.

    Args:
        args: Of the trainer.
        group: Drawings of a prompt.
        is_held: Whether the loss holds the policy near the reference.
        has_adapters: Whether only adapters learn.
    """
    if group < 2:
        raise ValueError(f"Expected groups of at least 2, got num_generations={group}: alone there is no advantage.")
    if is_held and not has_adapters:
        raise ValueError(
            "Expected LoRA for a loss that holds the policy near its start (the reference is the model without its "
            "adapters), got full training; give peft_config, or set beta=0 and no flow regulariser."
        )
    if args.max_steps is None or args.max_steps < 1:
        raise ValueError(f"Expected max_steps of at least 1, got {args.max_steps}.")


def rated(model: nn.Module, und_rate: float, gen_rate: float) -> list[dict[str, Any]]:
    """What learns, as groups of an optimizer: the und expert at its rate, the gen expert at its own."""
    learnt = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in learnt if not is_gen(name)], "lr": und_rate},
        {"params": [p for name, p in learnt if is_gen(name)], "lr": gen_rate},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(trainer: Trainer, model: nn.Module, gen_rate: float) -> torch.optim.Optimizer:
    """That of a trainer's settings, in two groups; the und expert learns at ``args.learning_rate``."""
    kind, options = trainer.get_optimizer_cls_and_kwargs(trainer.args, model)
    groups = rated(model, trainer.args.learning_rate, gen_rate)
    decay = {"weight_decay": trainer.args.weight_decay}
    return kind([{**group, **decay} for group in groups], **options)


def no_gradient(model: nn.Module) -> Tensor:
    """0, with a gradient of 0 for all that learns.

    Without it a batch on which no image was drawn has no gradient at all where only the gen expert learns, and where
    processes wait for each other's gradients they would wait for ever.
    """
    learnt = [p.sum() for p in model.parameters() if p.requires_grad]
    return 0.0 * torch.stack(learnt).sum()


def is_gen(name: str) -> bool:
    """Whether a parameter belongs to the gen expert, or embeds or reads latents."""
    return GEN in name or any(
        f"{part}." in name for part in ("vae2llm", "llm2vae", "time_embedder", "latent_pos_embed")
    )
