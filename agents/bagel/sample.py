"""Images out of contexts, many canvases at a time.

Nothing here draws random numbers: a caller hands in the noise, so that what a canvas draws does not depend on its
neighbours in the batch, but for float noise: sums over batches of other sizes are rounded differently.

Somebody may watch. At a time t the velocity v tells what a state x_t is heading for, the clean estimate x_t - t v; a
canvas that is given up over it leaves the batch at once, and the network is evaluated for the others alone.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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


class Watch(Protocol):
    """Who looks at estimates on the way."""

    def wants(self, canvas: int, step: int) -> bool:
        """Whether to look at a canvas, by its number, after a step, from 1."""
        ...

    def look(self, estimates: Mapping[int, Tensor]) -> Collection[int]:
        """The canvases that go no further.

        Args:
            estimates: By canvas, float32 (tokens, p·p·z).
        """
        ...


class Sampled(NamedTuple):
    """A batch of sampled images."""

    latents: list[Tensor]
    """Of each canvas, float32 (tokens, p·p·z); of one that went no further its last estimate."""
    steps: list[int]
    """Sampling steps of each canvas."""
    nfe: list[int]
    """Network evaluations of each canvas, branches counted one by one."""
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
    watch: Watch | None = None,
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
        watch: Looks at estimates, and may give canvases up.
    """
    if [len(x) for x in noise] != [h * w for h, w in grids]:
        raise ValueError(f"Expected noise for grids {list(grids)}, got lengths {[len(x) for x in noise]}.")
    times = flow.schedule(sampling.num_timesteps, sampling.timestep_shift)
    x = pad_sequence([n.to(contexts.device, torch.float32) for n in noise], batch_first=True)
    walk = _Walk(x, times.tolist(), grids, sampling.noise, stochastic, is_recorded)
    field = _Field(contexts, branches, grids, sampling, times)
    for i in range(len(times) - 1):
        v = field(i, walk.x, walk.running)
        estimates = walk.estimates(i, v, watch)
        walk.step(i, v, field.num_branches)
        if watch is not None and estimates:
            walk.give_up(watch.look(estimates), estimates)
            if not walk.running:
                break
    return walk.sampled()


class _Field:
    """The guided velocity of the canvases that still run."""

    def __init__(
        self,
        contexts: Contexts,
        branches: Branches,
        grids: Sequence[tuple[int, int]],
        sampling: Sampling,
        times: Tensor,
    ) -> None:
        self.contexts, self.grids, self.sampling, self.times = contexts, grids, sampling, times
        self._on = flow.is_guided(times, sampling.cfg_interval) & (sampling.cfg_text_scale > 1)
        self._guided = [branches.full, branches.text, *([branches.img] if sampling.cfg_img_scale > 1 else [])]
        self._made: tuple[bool, list[int]] | None = None
        self._denoiser: Denoiser | None = None

    @property
    def num_branches(self) -> int:
        """Contexts under which the last velocity was evaluated."""
        assert self._denoiser is not None
        return self._denoiser.num_branches

    def __call__(self, i: int, x: Tensor, running: list[int]) -> Tensor:
        """Velocities at time ``i`` of the schedule, of states (canvases, width, p·p·z) of the ``running`` canvases."""
        on = bool(self._on[i])
        if self._made != (on, running):
            views = [[branch[k] for k in running] for branch in (self._guided if on else self._guided[:1])]
            self._denoiser = Denoiser(self.contexts, views, [self.grids[k] for k in running])
            self._made = on, list(running)
        assert self._denoiser is not None
        v, *others = self._denoiser(x, self.times[i].to(self.contexts.device))
        return flow.guide(
            v,
            others[0] if others else None,
            others[1] if len(others) > 1 else None,
            text_scale=self.sampling.cfg_text_scale if on else 1.0,
            img_scale=self.sampling.cfg_img_scale,
            renorm=self.sampling.cfg_renorm_type,
            renorm_min=self.sampling.cfg_renorm_min,
        )


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
        self.running = list(range(len(grids)))  # canvases that have a row in x, in its order
        self._counts = [h * w for h, w in grids]
        self._draws = [dict(zip(each.steps, each.noise, strict=True)) for each in stochastic]
        self._paths: list[list[Transition]] = [[] for _ in grids]
        self._steps, self._nfe = [0] * len(grids), [0] * len(grids)
        self._given_up: dict[int, Tensor] = {}

    def estimates(self, i: int, v: Tensor, watch: Watch | None) -> dict[int, Tensor]:
        """What the canvases that are to be looked at are heading for, before the step from time ``i``."""
        wanted = [] if watch is None else [(r, k) for r, k in enumerate(self.running) if watch.wants(k, i + 1)]
        return {k: (self.x[r] - self.times[i] * v[r])[: self._counts[k]] for r, k in wanted}

    def step(self, i: int, v: Tensor, num_branches: int) -> None:
        """From time ``i`` of the schedule to the next, by velocities (canvases, width, p·p·z)."""
        t, t_next = self.times[i], self.times[i + 1]
        before, self.x = self.x, flow.step(self.x, v, t, t_next)
        for r, k in enumerate(self.running):
            self._steps[k] += 1
            self._nfe[k] += num_branches
            if self._draws and i in self._draws[k]:
                # Row by row: a canvas's numbers must not depend on its neighbours' windows.
                self._jump(r, k, before[r], v[r], t, t_next, self._draws[k][i])
        if self.is_recorded and self.noise is None:
            for k, x, x_next in zip(self.running, before.cpu(), self.x.cpu(), strict=True):
                self._record(k, Transition(x, x_next, t, t_next, 0.0))

    def give_up(self, canvases: Collection[int], estimates: Mapping[int, Tensor]) -> None:
        """Go on without these canvases; their last estimates are what they come to."""
        if not canvases:
            return
        self._given_up |= {k: estimates[k] for k in canvases}
        kept = [r for r, k in enumerate(self.running) if k not in self._given_up]
        self.running = [self.running[r] for r in kept]
        width = max((self._counts[k] for k in self.running), default=0)
        self.x = self.x[kept, :width]

    def _jump(self, r: int, k: int, x: Tensor, v: Tensor, t: float, t_next: float, drawn: Tensor) -> None:
        assert self.noise is not None
        n = self._counts[k]
        at = flow.moments(x[:n], v[:n], t, t_next, self.noise.eta, self.noise.kernel)
        x_next = at.mean + at.std * drawn.to(x.device)
        self.x[r, :n] = x_next
        if self.is_recorded:
            logp = float(flow.log_prob(x_next, at))
            self._record(k, Transition(x.cpu(), x_next.cpu(), t, t_next, self.noise.eta, logp))

    def _record(self, k: int, step: Transition) -> None:
        n = self._counts[k]  # without padding, and not as a view of the whole batch
        self._paths[k].append(step._replace(x=step.x[:n].clone(), x_next=step.x_next[:n].clone()))

    def sampled(self) -> Sampled:
        """What became of every canvas."""
        latents = {k: row[: self._counts[k]] for k, row in zip(self.running, self.x, strict=True)} | self._given_up
        paths = [tuple(path) for path in self._paths]
        return Sampled([latents[k] for k in range(len(paths))], self._steps, self._nfe, paths)
