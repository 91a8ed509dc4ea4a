"""Images out of contexts, many canvases at a time.

Nothing here draws random numbers: a caller hands in the noise, so that what a canvas draws does not depend on its
neighbours in the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ...envs.protocols import Transition
from . import flow
from .context import Contexts, View
from .noise import Noise
from .queries import Denoiser


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How images are sampled. The defaults are BAGEL's recommendation for text-to-image."""

    num_timesteps: int = 50
    """Points of the time grid; one more than the number of sampling steps."""
    timestep_shift: float = 3.0
    """Shift of the grid towards noise; 1.0 is none."""
    cfg_text_scale: float = 4.0
    """Guidance away from the context without its last text; 1 or below: no guidance at all."""
    cfg_img_scale: float = 1.0
    """Guidance away from the context without images; 1 or below: none (2.0 is recommended for editing)."""
    cfg_interval: tuple[float, float] = (0.4, 1.0)
    """Guidance is on where ``low < t <= high``."""
    cfg_renorm_type: flow.Renorm = "global"
    """See ``flow.guide``; ``text_channel`` is recommended for editing."""
    cfg_renorm_min: float = 0.0
    """See ``flow.guide``."""
    noise: Noise | None = None
    """Stochastic steps, for learning; ``None``: the ODE alone."""

    def __post_init__(self) -> None:
        if self.noise is not None:
            self.noise.window.steps(self.num_timesteps - 1, (0, 0, 0))


class Branches(NamedTuple):
    """The contexts under which images are sampled, one view per canvas in each."""

    full: Sequence[View]
    """Everything."""
    text: Sequence[View] = ()
    """Without the last text; needed for text guidance."""
    img: Sequence[View] = ()
    """Texts only; needed for image guidance."""


class Stochastic(NamedTuple):
    """The stochastic steps of one canvas."""

    steps: Sequence[int]
    """Their numbers, ascending; never the last step."""
    noise: Tensor
    """Standard normal, float32 (steps, tokens, p·p·z)."""


class Sampled(NamedTuple):
    """A batch of sampled images."""

    latents: list[Tensor]
    """Of each canvas, float32 (tokens, p·p·z)."""
    nfe: int
    """Network evaluations for each canvas, branches counted one by one."""
    paths: list[tuple[Transition, ...]]
    """Flow path of each canvas; empty where not asked for."""


@torch.no_grad()
def sample_images(
    contexts: Contexts,
    branches: Branches,
    noise: Sequence[Tensor],
    grids: Sequence[tuple[int, int]],
    sampling: Sampling,
    *,
    stochastic: Sequence[Stochastic] = (),
    is_recorded: bool = False,
) -> Sampled:
    """Draw one image per canvas.

    Args:
        contexts: Where the views of ``branches`` lie; they are only read.
        branches: What the images are conditioned on and guided away from.
        noise: Standard normal noise of each canvas in token space, (tokens, p·p·z).
        grids: (rows, columns) of latent tokens of each canvas.
        sampling: Steps and guidance.
        stochastic: With ``sampling.noise``: for each canvas its stochastic steps, and what they draw.
        is_recorded: Whether to return the flow paths: with ``sampling.noise`` the stochastic steps alone, else all.
    """
    if [len(x) for x in noise] != [h * w for h, w in grids]:
        raise ValueError(f"Expected noise for grids {list(grids)}, got lengths {[len(x) for x in noise]}.")
    times = flow.schedule(sampling.num_timesteps, sampling.timestep_shift)
    on = flow.is_guided(times, sampling.cfg_interval) & (sampling.cfg_text_scale > 1)
    guided = [branches.full, branches.text, *([branches.img] if sampling.cfg_img_scale > 1 else [])]
    x = pad_sequence([n.to(contexts.device, torch.float32) for n in noise], batch_first=True)
    walk = _Walk(x, times.tolist(), grids, sampling.noise, stochastic, is_recorded)
    nfe, denoiser = 0, None
    for i in range(len(times) - 1):
        if i == 0 or on[i] != on[i - 1]:
            denoiser = Denoiser(contexts, guided if on[i] else [branches.full], grids)
        assert denoiser is not None
        v, *others = denoiser(walk.x, times[i].to(contexts.device))
        v = flow.guide(
            v,
            others[0] if others else None,
            others[1] if len(others) > 1 else None,
            text_scale=sampling.cfg_text_scale if on[i] else 1.0,
            img_scale=sampling.cfg_img_scale,
            renorm=sampling.cfg_renorm_type,
            renorm_min=sampling.cfg_renorm_min,
        )
        walk.step(i, v)
        nfe += denoiser.num_branches
    return Sampled([row[: h * w] for row, (h, w) in zip(walk.x, grids, strict=True)], nfe, walk.paths())


class _Walk:
    """States on their way from noise to data: Euler steps, and the stochastic ones of each canvas."""

    def __init__(
        self,
        x: Tensor,
        times: list[float],
        grids: Sequence[tuple[int, int]],
        noise: Noise | None,
        stochastic: Sequence[Stochastic],
        is_recorded: bool,
    ) -> None:
        if (noise is None) != (not stochastic) or (stochastic and len(stochastic) != len(grids)):
            raise ValueError(
                f"Expected stochastic steps of {len(grids)} canvases with sampling.noise, got {len(stochastic)}."
            )
        self.x, self.times, self.noise, self.is_recorded = x, times, noise, is_recorded
        self._counts = [h * w for h, w in grids]
        self._draws = [dict(zip(each.steps, each.noise, strict=True)) for each in stochastic]
        self._paths: list[list[Transition]] = [[] for _ in grids]

    def step(self, i: int, v: Tensor) -> None:
        """From time ``i`` of the schedule to the next, by velocities (canvases, width, p·p·z)."""
        t, t_next = self.times[i], self.times[i + 1]
        before, self.x = self.x, flow.step(self.x, v, t, t_next)
        for k, draws in enumerate(self._draws):
            if i in draws:  # row by row: a canvas's numbers must not depend on its neighbours' windows
                self._jump(k, before[k], v[k], t, t_next, draws[i])
        if self.is_recorded and self.noise is None:
            for k, (x, x_next) in enumerate(zip(before.cpu(), self.x.cpu(), strict=True)):
                self._record(k, Transition(x, x_next, t, t_next, 0.0))

    def _jump(self, k: int, x: Tensor, v: Tensor, t: float, t_next: float, drawn: Tensor) -> None:
        assert self.noise is not None
        n = self._counts[k]
        at = flow.moments(x[:n], v[:n], t, t_next, self.noise.eta, self.noise.kernel)
        x_next = at.mean + at.std * drawn.to(x.device)
        self.x[k, :n] = x_next
        if self.is_recorded:
            logp = float(flow.log_prob(x_next, at))
            self._record(k, Transition(x.cpu(), x_next.cpu(), t, t_next, self.noise.eta, logp))

    def _record(self, k: int, step: Transition) -> None:
        n = self._counts[k]  # without padding, and not as a view of the whole batch
        self._paths[k].append(step._replace(x=step.x[:n].clone(), x_next=step.x_next[:n].clone()))

    def paths(self) -> list[tuple[Transition, ...]]:
        """What was recorded of each canvas."""
        return [tuple(path) for path in self._paths]
