"""Forward states: finished images, noised again to times at which their sampler stops by.

Learning on the forward process (DiffusionNFT, arXiv 2509.16117; Diffusion-DPO, arXiv 2311.12908) needs nothing of how
an image was drawn: of the image x0 and fresh noise e it makes x_t = (1 - t) x0 + t e, whose velocity is e - x0, and
looks at what the network says there. x0 is the latent with which the image re-entered its context, the encoder's mean
of the uint8 pixels: what everybody saw, not what the sampler ended at.

Times are those of the sampler's own shifted schedule at which the network is evaluated, 1 included and 0 not: they are
cut into as many runs of neighbours as states are wanted, and each run gives one, all equally likely. So a few states
cover the schedule as DiffusionNFT's sweep over all of it does on average.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .bagel import flow
from .bagel.sample import Sampling
from .trajectory import Trajectory

DOMAIN = 0xF04D
"""Before every seed, so that no stream of random numbers here is one that a sampler draws images and words with."""


class ForwardState(NamedTuple):
    """An image noised to a time."""

    emission: int
    """Number of the emission that drew the image."""
    time: float
    """t in (0, 1]."""
    clean: Tensor
    """x0, float32 (T, C)."""
    noise: Tensor
    """e, float32 (T, C)."""

    @property
    def state(self) -> Tensor:
        """x_t, float32 (T, C)."""
        return (1 - self.time) * self.clean + self.time * self.noise

    @property
    def velocity(self) -> Tensor:
        """What the network is to say there, e - x0."""
        return self.noise - self.clean


def times_of(sampling: Sampling) -> list[float]:
    """Times at which states may be, falling from 1."""
    return flow.schedule(sampling.num_timesteps, sampling.timestep_shift)[:-1].tolist()


def forward_states(trajectory: Trajectory, sampling: Sampling, num: int, seed: Sequence[int]) -> list[ForwardState]:
    """States of every image that the policy drew, ``num`` of each, in the order of the images.

    Times and noise of the i-th image depend on ``seed`` and i alone, and are independent of what drew it, whatever the
    seed: two trajectories given one seed share, i-th image with i-th image, the times, and where these are of one size,
    the noise too.

    Args:
        trajectory: Finished, with latents (``Interleaved(is_recorded=True)``).
        sampling: Whose schedule the times are of.
        num: States of each image.
        seed: Decides times and noise; whole numbers.

    Raises:
        ValueError: More states than times, or an image without its latent.
    """
    times = times_of(sampling)
    if not 0 < num <= len(times):
        raise ValueError(
            f"Expected between 1 and {len(times)} states of an image, as it has sampling steps, got {num}."
        )
    states: list[ForwardState] = []
    drawn = ((k, reply) for k, entry, reply in trajectory.own() if entry.stage.is_image)
    for i, (k, reply) in enumerate(drawn):
        if reply.latent is None:
            raise ValueError(
                f"Expected the latent of emission {k}, which is learnt from; draw with Interleaved(is_recorded=True)."
            )
        rng = np.random.default_rng(np.random.SeedSequence((DOMAIN, *seed, i)))
        clean = reply.latent.float()
        for run in np.array_split(np.arange(len(times)), num):
            noise = torch.from_numpy(rng.standard_normal(tuple(clean.shape), dtype=np.float32))
            states.append(ForwardState(k, times[int(rng.choice(run))], clean, noise))
    return states
