"""The flow's share of the objective: GRPO on the stochastic steps of images.

A step j of image i draws x' from N(mu, sigma^2); S is its log-density in nats, summed over all D dimensions, and
A the advantage of the emission it belongs to, clamped to +-5 (flow_grpo). With dS = S - S_old, per step:

    nats       L = max(-A e^dS, -A clip(e^dS, e^-c, e^c)) / D
    mean       L = max(-A e^(dS/D), -A clip(e^(dS/D), 1 - c, 1 + c))                          (flow_grpo, verl-omni)
    rationorm  the same with dS/D replaced by sigma (dS/D + b), b = mean_D (dmu)^2 / (2 sigma^2)        (GRPO-Guard)
    guard      the same with b averaged over all steps at hand, which is what GRPO-Guard's own code computes
    dppo       L = -A e^(dS/D), and 0 where b >= c and the step moves further away still              (Flow-DPPO)

``nats`` is ours. Its ratio is that of the whole step, so its bound c, in nats, is the trust region that PPO means, and
one number holds at every resolution: 0.66 is flow_grpo's 1e-5 at 512 x 512, where D = 65,536. Dividing by D leaves the
gradient on fresh weights exactly that of the mean form, an average over dimensions, whose size does not depend on the
resolution either; so one learning rate holds, too. In the mean form e^(dS/D) is the D-th root of a ratio: the same c
allows four times the change at twice the side. ``rationorm`` centres the log-ratio and makes it independent of sigma
(arXiv 2510.22319); GRPO-Guard also divides the loss by the length of the step, which its author advises against, and we
leave out. ``dppo`` does not clamp advantages (arXiv 2606.11025).

Beside it, per step, beta times a regulariser towards the reference (the model without its adapters):

    velocity   mean_D (v - v_ref)^2                                                            (UniGRPO, recommended)
    kl         mean_D (mu - mu_ref)^2 / (2 sigma^2), the exact divergence, per dimension

The text's share is TRL's own. The trainer sums L over steps and divides by their number in a generation, over its
updates, as TRL's ``dapo`` does for tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..agents.replay import Replayed, Replayer
from ..agents.trajectory import Trajectory

Form = Literal["nats", "mean", "rationorm", "guard", "dppo"]
Regulariser = Literal["velocity", "kl"]
REFERENCE_DIMENSION = 65_536
"""Dimensions of a latent of 512 x 512 pixels, for which published clips are given."""
CLIPS = {"nats": 1e-5 * REFERENCE_DIMENSION, "mean": 1e-5, "rationorm": 2e-6, "guard": 2e-6, "dppo": 1e-5}
"""Default bounds: 1e-5 in a window of 2 or 3 steps (flow_grpo, verl-omni); 2e-6 normalised (GRPO-Guard); of the
divergence, 1e-5 (Flow-DPPO)."""

FAR = 50.0
"""Nats beyond which a step's ratio is held: e^50 is far outside any bound and still a number."""


class Steps(NamedTuple):
    """Stochastic steps of one trajectory or of several; or forward states, which have velocities alone."""

    logps: Tensor
    """(S,): log-densities in nats, summed over dimensions."""
    means: Tensor
    """(S, T, C)."""
    stds: Tensor
    """(S,)."""
    velocities: Tensor
    """(S, T, C), guided."""

    @classmethod
    def of(cls, replayed: Replayed) -> "Steps":
        """Those of a replay."""
        return cls(replayed.steps, replayed.means, replayed.stds, replayed.velocities)

    @classmethod
    def cat(cls, parts: Sequence["Steps"]) -> "Steps":
        """All steps of several; those without any have no size to agree with the others."""
        full = [part for part in parts if len(part.velocities)] or list(parts[:1])
        return cls(*(torch.cat(tensors) for tensors in zip(*full, strict=True)))

    def detach(self) -> "Steps":
        """The same without gradient."""
        return Steps(*(tensor.detach() for tensor in self))


class FlowLoss(NamedTuple):
    """What an objective says of some steps."""

    per_step: Tensor
    """float32 (S,): policy loss plus regulariser."""
    metrics: dict[str, float]
    """Means over the steps, always the same names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowObjective:
    """See the module."""

    form: Form = "nats"
    clip_low: float | None = None
    """Bound on a falling density; ``None``: that of the form."""
    clip_high: float | None = None
    """Bound on a rising density."""
    advantage_clip: float = 5.0
    """flow_grpo's."""
    regulariser: Regulariser | None = None
    beta: float = 0.0

    def __post_init__(self) -> None:
        if self.form not in CLIPS:
            raise ValueError(f"Expected flow.form among {', '.join(CLIPS)}, got {self.form!r}.")
        if self.regulariser not in (None, "velocity", "kl"):
            raise ValueError(f"Expected flow.regulariser to be velocity, kl or null, got {self.regulariser!r}.")
        if self.beta < 0 or (self.beta > 0) != (self.regulariser is not None):
            raise ValueError(
                f"Expected flow.beta above 0 exactly with a regulariser, got {self.beta} with {self.regulariser!r}."
            )

    needs_behaviour = False

    @property
    def needs_reference(self) -> bool:
        """Whether the reference has to be replayed."""
        return self.regulariser is not None

    def num_learnt(self, trajectory: Trajectory, credit: np.ndarray) -> int:
        """Stochastic steps of a trajectory, whatever they are credited with."""
        return sum(step.eta > 0 for _, _, reply in trajectory.own() for step in reply.path)

    def replay(self, replayer: Replayer, model: nn.Module, trajectories: Sequence[Trajectory]) -> list[Replayed]:
        """Words, and the recorded stochastic steps."""
        return replayer(model, trajectories)

    def loss(
        self,
        trajectories: Sequence[Trajectory],
        now: Steps,
        old: Steps | None,
        advantages: Tensor,
        reference: Steps | None,
    ) -> FlowLoss:
        """The loss of each step of some trajectories; one without a verdict, NaN, has the advantage 0."""
        return self(now, old, advantages.nan_to_num(), reference)

    def __call__(self, now: Steps, old: Steps | None, advantages: Tensor, reference: Steps | None = None) -> FlowLoss:
        """The loss of each step.

        Args:
            now: At the weights that learn, with gradient.
            old: At the weights that drew; ``None``: they are the same.
            advantages: Of each step, (S,).
            reference: At the reference, where there is a regulariser.
        """
        old = now.detach() if old is None else old
        a = advantages.to(now.logps.dtype)
        if self.form != "dppo":
            a = a.clamp(-self.advantage_clip, self.advantage_clip)
        log_ratio = now.logps - old.logps
        policy, clipped = self._policy(now, old, log_ratio, a)
        distance = self._distance(now, reference)
        metrics = {
            "policy": policy,
            "regulariser": distance,
            "clipped": clipped.double(),
            "log_ratio": log_ratio.abs(),
            "kl_old": 0.5 * log_ratio.square(),
        }
        means = {name: float(value.detach().mean()) if len(value) else 0.0 for name, value in metrics.items()}
        return FlowLoss(policy + self.beta * distance, means)

    def _policy(self, now: Steps, old: Steps, log_ratio: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """Policy loss of each step, and whether its bound holds it."""
        dims = max(1, now.means.shape[-2] * now.means.shape[-1])
        low = CLIPS[self.form] if self.clip_low is None else self.clip_low
        high = CLIPS[self.form] if self.clip_high is None else self.clip_high
        if self.form == "nats":
            ratio, bounded = log_ratio.clamp(-FAR, FAR).exp(), log_ratio.clamp(-low, high).exp()
            return torch.maximum(-a * ratio, -a * bounded) / dims, -a * bounded > -a * ratio
        mean = log_ratio / dims
        if self.form in ("rationorm", "guard"):
            bias = _divergence(now, old)
            mean = now.stds * (mean + (bias.mean() if self.form == "guard" else bias))
        ratio = mean.exp()
        if self.form == "dppo":
            outward = ((ratio > 1) & (a > 0)) | ((ratio < 1) & (a < 0))
            held = (_divergence(now, old).detach() >= high) & outward
            return (-a * ratio).masked_fill(held, 0.0), held
        bounded = ratio.clamp(1 - low, 1 + high)
        return torch.maximum(-a * ratio, -a * bounded), -a * bounded > -a * ratio

    def _distance(self, now: Steps, reference: Steps | None) -> Tensor:
        if self.regulariser is None:
            return torch.zeros_like(now.logps)
        if reference is None:
            raise ValueError(f"Expected the reference's steps for regulariser {self.regulariser!r}, got none.")
        if self.regulariser == "velocity":
            return (now.velocities - reference.velocities).square().flatten(1).mean(1)
        return _divergence(now, reference)


def _divergence(now: Steps, other: Steps) -> Tensor:
    """KL divergence of each step's Gaussians per dimension, mean_D (dmu)^2 / (2 sigma^2), (S,)."""
    return (now.means - other.means).square().flatten(1).mean(1) / (2 * now.stds.square())
