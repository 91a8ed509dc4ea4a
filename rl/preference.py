"""Preferences: DPO of words and images together, on pairs of interleaved trajectories.

Of the drawings of one prompt the judge prefers one. DPO (arXiv 2305.18290) raises it over another, measured from the
reference, the model without its adapters; Diffusion-DPO (arXiv 2311.12908) puts in place of an image's likelihood how
well its noised states are denoised. A trajectory has both kinds of emissions, and one logistic holds them together:

    L = -log sigmoid( b_text (T(chosen) - T(rejected))  -  b_flow (F(chosen) - F(rejected)) )

    T = sum over all sampled tokens of log p - log p_ref
    F = sum over images, mean over an image's states of mean_D |v - (e - x0)|^2 - mean_D |v_ref - (e - x0)|^2

Both are sums over emissions, as the log-likelihood of a drawing is; the states of one image estimate one term of it.
The i-th images of both drawings share times and noise (``agents.forward_states``), which lessens the difference's
variance; images that the other drawing has none to match have noise of their own, and bring their whole error.

``b_text`` is 0.1, TRL's and PARM's. The Diffusion-DPO of diffusers and verl-omni halves its beta, on errors that are
means over dimensions as ours; verl-omni's 2000 is our ``b_flow`` of 1000. On bagel-nano 30 to 1000 do alike at the
rates of configs/experiment/dpo.yaml (docs/parm.md), though the flow's share of the margin outgrows that of the words;
gradients, of norm 100 and more, are cut to 1. The released PARM sums over masked image tokens (``tests/golden/parm``),
which is the text's share alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..agents.bagel.sample import Sampling
from ..agents.forward_states import ForwardState, forward_states
from ..agents.replay import Replayed
from ..agents.trajectory import Trajectory

LEAST_YES = 1e-7
"""PARM's."""


class Pair(NamedTuple):
    """Two drawings of one prompt."""

    chosen: Trajectory
    rejected: Trajectory


class Paired(NamedTuple):
    """What groups of drawings make."""

    pairs: list[Pair]
    """Of each group that has one, in their order."""
    num_equal: int
    """Groups whose drawings are all judged alike: they prefer nothing."""
    num_missing: int
    """Groups with fewer than two verdicts."""
    reward: float
    """Mean of all verdicts; NaN without any."""


def pairs_of(groups: Sequence[Sequence[Trajectory]], value: Callable[[Trajectory], float | None]) -> Paired:
    """The best and the worst drawing of each group, the first of equals.

    Args:
        groups: Drawings of one prompt each.
        value: The judge's verdict; ``None``: there is none, and a drawing without is in no pair.
    """
    pairs, num_equal, num_missing, known = [], 0, 0, []
    for group in groups:
        judged = [(score, each) for each in group if (score := value(each)) is not None]
        scores = [score for score, _ in judged]
        known += scores
        if len(judged) < 2:
            num_missing += 1
        elif max(scores) == min(scores):
            num_equal += 1
        else:
            pairs.append(Pair(judged[scores.index(max(scores))][1], judged[scores.index(min(scores))][1]))
    return Paired(pairs, num_equal, num_missing, sum(known) / len(known) if known else float("nan"))


class Evidence(NamedTuple):
    """How likely both drawings of pairs are under some weights, (P, 2): chosen, rejected."""

    logps: Tensor
    """Summed over tokens, in nats."""
    errors: Tensor
    """Squared error of the velocity, mean over dimensions and the states of an image, summed over images."""

    @classmethod
    def of(cls, replayed: Sequence[Replayed], states: Sequence[Sequence[ForwardState]]) -> "Evidence":
        """Of replays of chosen, rejected, chosen, ...

        Args:
            replayed: At forward states.
            states: Those of each.
        """
        logps = torch.stack([each.logps.sum() for each in replayed])
        errors = torch.stack([_error(*each) for each in zip(replayed, states, strict=True)])
        return cls(logps.reshape(-1, 2), errors.reshape(-1, 2))


def _error(replayed: Replayed, states: Sequence[ForwardState]) -> Tensor:
    if not states:
        return replayed.velocities.new_zeros(())
    wanted = torch.stack([state.velocity for state in states]).to(replayed.velocities.device)
    errors = (replayed.velocities - wanted).square().flatten(1).mean(1)
    emissions = [state.emission for state in states]
    return (errors / errors.new_tensor([emissions.count(k) for k in emissions])).sum()


def margins(now: Evidence, reference: Evidence, *, beta_text: float, beta_flow: float) -> Tensor:
    """How much more than the reference each pair's chosen drawing is preferred, in nats, (P,)."""
    logps, errors = now.logps - reference.logps, now.errors - reference.errors
    return beta_text * (logps[:, 0] - logps[:, 1]) - beta_flow * (errors[:, 0] - errors[:, 1])


def logistic(margin: Tensor) -> Tensor:
    """-log sigmoid."""
    return -F.logsigmoid(margin)


def guided(log_p_yes: Tensor) -> Tensor:
    """-log of the verifier's probability of yes, which is held at ``LEAST_YES`` and teaches nothing below."""
    return -log_p_yes.clamp(min=math.log(LEAST_YES))


class PreferenceLoss(NamedTuple):
    """What an objective says of some pairs."""

    per_pair: Tensor
    """float32 (P,)."""
    metrics: dict[str, float]
    """Means over the pairs, always the same names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceObjective:
    """See the module."""

    sampling: Sampling
    """How images were drawn."""
    beta_text: float = 0.1
    beta_flow: float = 1000.0
    num_states: int = 2
    """Of each image: one of the noisier half of the schedule, one of the other; Diffusion-DPO takes one of all."""

    def states(self, pair: Pair, epoch: int) -> tuple[list[ForwardState], list[ForwardState]]:
        """Of the chosen and the rejected drawing; others in each epoch."""
        seed = (*pair.chosen.seed[:3], epoch)
        one, other = (forward_states(each, self.sampling, self.num_states, seed) for each in pair)
        return one, other

    def __call__(
        self, now: Sequence[Replayed], reference: Sequence[Replayed], states: Sequence[Sequence[ForwardState]]
    ) -> PreferenceLoss:
        """The loss of pairs, given as chosen, rejected, chosen, ...

        Args:
            now: At the weights that learn, with gradient.
            reference: At the reference.
            states: Those that both were replayed at.
        """
        mine, theirs = Evidence.of(now, states), Evidence.of(reference, states)
        margin = margins(mine, theirs, beta_text=self.beta_text, beta_flow=self.beta_flow)
        text = margins(mine, theirs, beta_text=self.beta_text, beta_flow=0)
        loss = logistic(margin)
        metrics = {
            "preference": loss,
            "margin": margin,
            "margin_text": text,
            "margin_flow": margin - text,
            "accuracy": (margin > 0).float(),
            "chosen": mine.logps[:, 0] - theirs.logps[:, 0],
            "rejected": mine.logps[:, 1] - theirs.logps[:, 1],
        }
        return PreferenceLoss(loss, {name: float(value.detach().mean()) for name, value in metrics.items()})
