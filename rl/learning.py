"""Learning: what the joint objective adds to TRL's settings, who watches, and which weights learn at which rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import nn

from ..agents.bagel.layers import GEN
from ..agents.trajectory import Trajectory
from .advantage import CreditRule
from .loss import FlowObjective


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """What the joint objective adds to TRL's settings."""

    credit: CreditRule
    objective: FlowObjective
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

    def groups(self, model: nn.Module, learning_rate: float) -> list[dict[str, Any]]:
        """What learns, as groups of an optimizer: the und expert at ``learning_rate``, the gen expert at its own."""
        learnt = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        gen_rate = learning_rate if self.gen_learning_rate is None else self.gen_learning_rate
        groups = [
            {"params": [p for name, p in learnt if not is_gen(name)], "lr": learning_rate},
            {"params": [p for name, p in learnt if is_gen(name)], "lr": gen_rate},
        ]
        return [group for group in groups if group["params"]]


def is_gen(name: str) -> bool:
    """Whether a parameter belongs to the gen expert, or embeds or reads latents."""
    return GEN in name or any(
        f"{part}." in name for part in ("vae2llm", "llm2vae", "time_embedder", "latent_pos_embed")
    )
