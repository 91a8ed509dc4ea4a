"""The forward process as the flow's share: DiffusionNFT (arXiv 2509.16117) on images of interleaved trajectories.

The generator draws with any solver; nothing of its path is kept. An image x0, noised again to x_t
(``agents.forward_states``), is learnt from as something to come nearer to and something to keep away from at once. With
the advantage A of the emission, r = 1/2 + 1/2 clip(A / 5, -1, 1), and per state

    v+ = (1 - b) v_old + b v          x0+ = x_t - t v+          w+ = mean_D |x0+ - x0|, without gradient, at least 1e-5
    v- = (1 + b) v_old - b v          x0- = x_t - t v-          w- likewise

    L = 5 [ r mean_D (x0+ - x0)^2 / w+  +  (1 - r) mean_D (x0- - x0)^2 / w- ] / b  +  l mean_D (v - v_ref)^2

v_old is the velocity at the weights that drew, v_ref that of the model without its adapters, v the learner's; all are
conditional, without guidance. As x_t - x0 = t (e - x0), every x0+- - x0 is t times how far v+- is from the velocity
e - x0. The defaults b = 1 (GenEval, PickScore) and l = 1e-4 are the paper's; b = 0.1 is its choice for OCR.

An advantage of 0, where a group is judged alike, is r = 1/2. Along the line from v_old to e - x0 both pulls cancel, as
long as v is nearer to v_old than 1/b of its length; across it they hold v near v_old. An image without a verdict is no
such image: it is left out, of the loss and of what the loss is divided by.

Departures from the paper and its released code:

* They draw with guidance 1, as they learn and evaluate. Here images are drawn with the policy's own guidance, as they
  are evaluated, and learnt from without (``guidance=1.0`` draws, and looks at the held-out set, without, too).
* x0 is encoded again from the picture of uint8 that everybody saw; theirs is the latent at which the sampler ended.
* Advantages are over the spread of a prompt's own group; theirs over that of all groups.
* Images are drawn by Euler's method along the policy's schedule; theirs by a second-order solver.
* Two states of an image are learnt from; theirs, one at every sampling step.
* Adapters have the run's rank (``lora.rank``, 16); theirs 32.

What draws is ``rl.average``; v_old and the old log-probs of words are replayed at exactly those weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..agents.bagel.sample import Sampling
from ..agents.forward_states import ForwardState, forward_states
from ..agents.replay import Replayed, Replayer
from ..agents.trajectory import Trajectory
from .loss import FlowLoss, Steps

LEAST = 1e-5
"""Of the weights w+ and w-."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardObjective:
    """See the module."""

    sampling: Sampling
    """How images were drawn."""
    mix: float = 1.0
    """b: how far the implicit policies are from the old one."""
    penalty: float = 1e-4
    """l: weight of the distance from the reference."""
    num_states: int = 2
    """Of each image. The paper sweeps over all sampling steps; two, one of the noisier half of the schedule and one of
    the other, cost as much as the usual window of stochastic steps."""
    advantage_clip: float = 5.0
    """The paper's."""

    needs_behaviour = True

    @property
    def needs_reference(self) -> bool:
        """Whether the reference has to be replayed."""
        return self.penalty > 0

    def num_learnt(self, trajectory: Trajectory, credit: np.ndarray) -> int:
        """States of a trajectory that are learnt from: those of images with a verdict."""
        drawn = (k for k, entry, _ in trajectory.own() if entry.stage.is_image)
        return self.num_states * sum(not np.isnan(credit[k]) for k in drawn)

    def states(self, trajectory: Trajectory) -> list[ForwardState]:
        """The same whenever it is asked: they are decided by the trajectory's seed."""
        return forward_states(trajectory, self.sampling, self.num_states, trajectory.seed)

    def replay(self, replayer: Replayer, model: nn.Module, trajectories: Sequence[Trajectory]) -> list[Replayed]:
        """Words, and the velocities at forward states."""
        return replayer(model, trajectories, [self.states(each) for each in trajectories])

    def loss(
        self,
        trajectories: Sequence[Trajectory],
        now: Steps,
        old: Steps | None,
        advantages: Tensor,
        reference: Steps | None,
    ) -> FlowLoss:
        """The loss of each state of some trajectories; 0 where the advantage is NaN, there being no verdict."""
        assert old is not None
        states = [state for each in trajectories for state in self.states(each)]
        v = now.velocities
        times = torch.tensor([state.time for state in states], device=v.device)
        wanted = torch.stack([state.velocity for state in states]).to(v.device) if states else torch.zeros_like(v)
        is_judged = ~advantages.isnan()
        r = 0.5 + 0.5 * (advantages.nan_to_num().to(v.dtype) / self.advantage_clip).clamp(-1, 1)
        positive = _distance((1 - self.mix) * old.velocities + self.mix * v, wanted, times)
        negative = _distance((1 + self.mix) * old.velocities - self.mix * v, wanted, times)
        policy = self.advantage_clip * (r * positive + (1 - r) * negative) / self.mix
        away = _mean(v - reference.velocities) if reference is not None else torch.zeros_like(policy)
        moved = _mean((v - old.velocities).detach())
        metrics = {"policy": policy, "regulariser": away, "weight": r, "moved": moved}
        known = {name: value.detach()[is_judged] for name, value in metrics.items()}
        means = {name: float(value.mean()) if len(value) else 0.0 for name, value in known.items()}
        return FlowLoss((policy + self.penalty * away) * is_judged, means)


def _distance(v: Tensor, wanted: Tensor, times: Tensor) -> Tensor:
    """Of the clean images that velocities (S, T, C) and ``wanted`` ones lead to, over its own size: (S,)."""
    apart = times[:, None, None] * (v - wanted)
    size = apart.detach().abs().flatten(1).mean(1).clamp(min=LEAST) if len(apart) else times
    return _mean(apart) / size


def _mean(apart: Tensor) -> Tensor:
    """Mean square over tokens and channels of (S, T, C): (S,)."""
    return apart.square().flatten(1).mean(1) if len(apart) else apart.new_zeros(0)
