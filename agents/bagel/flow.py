"""Rectified flow of BAGEL: the time schedule, the guidance rule and one denoising step.

Time runs from 1 (noise) to 0 (data); a noisy latent is ``x_t = (1 - t) * data + t * noise`` and the
network predicts the velocity ``v = noise - data`` (BAGEL, arXiv 2505.14683; rectified flow, arXiv
2209.03003). Latents are token matrices of shape (..., tokens, channels); leading dimensions are images,
so that every norm below is taken per image. Images of different sizes share a batch padded with zeros:
zeros leave all norms and results unchanged.
"""

from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor

Time = TypeVar("Time", float, Tensor)

Renorm = Literal["global", "channel", "text_channel", "pack"]
"""Norm that a guided velocity may not exceed: of the image, of each token, of each token before image
guidance, or of the whole batch (what the official code calls "global"; batch 1 is the same as ours)."""


def shift_time(u: Time, shift: float) -> Time:
    """Times, one or many, moved towards noise: ``shift * u / (1 + (shift - 1) * u)``, 1.0 leaves them as they are."""
    return shift * u / (1 + (shift - 1) * u)


def schedule(num_timesteps: int, shift: float) -> Tensor:
    """Times of a sampling run, float32 (num_timesteps,), from 1 down to 0.

    Only the first ``num_timesteps - 1`` are evaluated; the last is where the final step lands.
    """
    if num_timesteps < 2:
        raise ValueError(f"Expected num_timesteps of at least 2 (one evaluation), got {num_timesteps!r}.")
    if not shift > 0:
        raise ValueError(f"Expected a positive timestep shift, got {shift!r}.")
    return shift_time(torch.linspace(1, 0, num_timesteps), shift)


def is_guided(times: Tensor, interval: tuple[float, float]) -> Tensor:
    """Whether guidance is on, bool (N,): ``interval[0] < t <= interval[1]`` on the shifted float32 times."""
    return (times > interval[0]) & (times <= interval[1])


def guide(
    v: Tensor,
    v_text: Tensor | None,
    v_img: Tensor | None,
    *,
    text_scale: float,
    img_scale: float,
    renorm: Renorm = "global",
    renorm_min: float = 0.0,
) -> Tensor:
    """Combine the velocities of the guidance branches.

    Args:
        v: Velocity under the full context, (..., tokens, channels).
        v_text: Velocity without the last text, same shape; unused where ``text_scale <= 1``.
        v_img: Velocity without images, same shape; unused where ``img_scale <= 1``.
        text_scale: Strength of text guidance. At 1 or below there is no guidance at all, of images
            neither (as in the official code).
        img_scale: Strength of image guidance; 1 or below is none.
        renorm: Which norm of ``v`` the result may not exceed.
        renorm_min: Smallest factor of that renormalisation, in [0, 1]; 1 switches it off.
    """
    if renorm not in get_args(Renorm):
        raise ValueError(f"Expected renorm to be one of {', '.join(get_args(Renorm))}, got {renorm!r}.")
    if text_scale <= 1 or v_text is None:
        return v
    guided = v_text + text_scale * (v - v_text)
    if renorm == "text_channel":
        guided = guided * _shrink(v, guided, -1, renorm_min)
    if img_scale > 1 and v_img is not None:
        guided = v_img + img_scale * (guided - v_img)
    if renorm == "text_channel":
        return guided
    return guided * _shrink(
        v, guided, -1 if renorm == "channel" else (-2, -1) if renorm == "global" else None, renorm_min
    )


def _shrink(v: Tensor, guided: Tensor, dims: int | tuple[int, int] | None, renorm_min: float) -> Tensor:
    """The factor ``clamp(|v| / (|guided| + 1e-8), renorm_min, 1)``: it never amplifies."""
    norm = torch.linalg.vector_norm(v, dim=dims, keepdim=True)
    return (norm / (torch.linalg.vector_norm(guided, dim=dims, keepdim=True) + 1e-8)).clamp(renorm_min, 1)


def step(x: Tensor, v: Tensor, t: float, t_next: float) -> Tensor:
    """State at ``t_next`` after one Euler step of the ODE from ``x`` at ``t``: ``x - (t - t_next) * v``."""
    return x - (t - t_next) * v
