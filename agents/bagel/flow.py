"""Rectified flow of BAGEL: the time schedule, the guidance rule and one denoising step.

Time runs from 1 (noise) to 0 (data); a noisy latent is ``x_t = (1 - t) * data + t * noise`` and the
network predicts the velocity ``v = noise - data`` (BAGEL, arXiv 2505.14683; rectified flow, arXiv
2209.03003). Latents are token matrices of shape (..., tokens, channels); leading dimensions are images,
so that every norm below is taken per image. Images of different sizes share a batch padded with zeros:
zeros leave all norms and results unchanged.
"""

import math
from typing import Literal, NamedTuple, TypeVar, get_args

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


Kernel = Literal["sde", "cps", "dance"]
"""Which stochastic step replaces an Euler step of the ODE: Flow-GRPO's SDE (arXiv 2505.05470), Coefficients-Preserving
Sampling (arXiv 2509.05952), or DanceGRPO's SDE of constant noise (arXiv 2505.07818)."""


class Moments(NamedTuple):
    """The Gaussian from which a stochastic step draws the next state."""

    mean: Tensor
    """float32, like the state."""
    std: float
    """Of every dimension; the whole noise scale of the step, the root of its length included."""


def moments(x: Tensor, v: Tensor, t: float, t_next: float, eta: float, kernel: Kernel = "sde") -> Moments:
    """Mean and standard deviation of the state at ``t_next``; the one implementation, for sampling and for replay.

    With D = t - t_next > 0, the clean estimate x0 = x - t v and the noise estimate x1 = x + (1 - t) v:

    * ``sde``: s = eta sqrt(t / (1 - t*)); mean = x - D [v + s^2 / (2 t) x1]; std = s sqrt(D). t* is t, but t_next
      where t = 1, the first step of a schedule, where the formula has no value (Flow-GRPO's choice).
    * ``cps``: std = t_next sin(eta pi / 2); mean = (1 - t_next) x0 + sqrt(t_next^2 - std^2) x1.
    * ``dance``: std = eta sqrt(D); mean = x - D [v + eta^2 / (2 t) x1] (the sde with s = eta).

    Args:
        x: State at ``t``, any shape; read as float32.
        v: Velocity there, same shape; read as float32.
        t: Time, in (0, 1].
        t_next: Time of the next state, in [0, t).
        eta: Noise level, above 0 (``cps``: below 1 keeps every coefficient real and monotone).
        kernel: See above.

    Raises:
        ValueError: An unknown kernel, a noise level that is not positive, or times out of order.
    """
    if not 0 <= t_next < t <= 1:
        raise ValueError(f"Expected 0 <= t_next < t <= 1, got t={t!r} and t_next={t_next!r}.")
    if not eta > 0:
        raise ValueError(
            f"Expected a noise level eta above 0 in a stochastic step, got {eta!r}; an ODE step is `step`."
        )
    x, v, length = x.float(), v.float(), t - t_next
    noise = x + (1 - t) * v
    if kernel == "cps":
        std = t_next * math.sin(eta * math.pi / 2)
        return Moments((1 - t_next) * (x - t * v) + math.sqrt(t_next**2 - std**2) * noise, std)
    if kernel == "sde":
        level = eta * math.sqrt(t / (1 - (t_next if t == 1 else t)))
    elif kernel == "dance":
        level = eta
    else:
        raise ValueError(f"Expected kernel to be one of {', '.join(get_args(Kernel))}, got {kernel!r}.")
    return Moments(x - length * (v + level**2 / (2 * t) * noise), level * math.sqrt(length))


def log_prob(x_next: Tensor, at: Moments) -> Tensor:
    """Log-density of a state under a step's Gaussian, in nats, summed over tokens and channels: (..., T, C) to (...).

    float64: the sum is in the hundreds of thousands at full size, where float32 counts in hundredths of a nat. A sum,
    not Flow-GRPO's mean over dimensions: so a bound on it means the same at every resolution.
    """
    z = (x_next.float() - at.mean) / at.std
    constant = math.log(at.std) + 0.5 * math.log(2 * math.pi)
    return -(0.5 * z.double().square() + constant).sum((-2, -1))
