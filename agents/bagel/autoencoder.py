"""The FLUX autoencoder: diffusers' ``AutoencoderKL``, spoken to in the official checkpoint's names.

A latent is scale · (posterior sample - shift); the log-variance is not clamped.
"""

import re
from collections.abc import Mapping
from typing import Literal

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from .config import VAEConfig

Posterior = Literal["mean", "sample"]
_SHARED = (
    ("mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0."),
    ("mid.attn_1.norm.", "mid_block.attentions.0.group_norm."),
    ("mid.attn_1.q.", "mid_block.attentions.0.to_q."),
    ("mid.attn_1.k.", "mid_block.attentions.0.to_k."),
    ("mid.attn_1.v.", "mid_block.attentions.0.to_v."),
    ("mid.block_1.", "mid_block.resnets.0."),
    ("mid.block_2.", "mid_block.resnets.1."),
    ("norm_out.", "conv_norm_out."),
    (".nin_shortcut.", ".conv_shortcut."),
    (".downsample.conv.", ".downsamplers.0.conv."),
    (".upsample.conv.", ".upsamplers.0.conv."),
)


def official_name(name: str, levels: int) -> str:
    """The official name of a parameter of ``AutoencoderKL`` with ``levels`` resolution levels."""
    for official, ours in _SHARED:
        name = name.replace(ours, official)
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d+)\.", r"down.\1.", name)
    # The official decoder counts its levels by resolution, diffusers by order of execution.
    name = re.sub(r"up_blocks\.(\d+)\.", lambda m: f"up.{levels - 1 - int(m[1])}.", name)
    return re.sub(r"(up\.\d+)\.resnets\.", r"\1.block.", name)


class Autoencoder(nn.Module):
    """Pixels to latents and back. Weights are frozen unless a caller asks otherwise."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        levels = len(config.ch_mult)
        self.kl = AutoencoderKL(
            in_channels=config.in_channels,
            out_channels=config.out_ch,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(config.ch * m for m in config.ch_mult),
            layers_per_block=config.num_res_blocks,
            latent_channels=config.z_channels,
            norm_num_groups=config.norm_num_groups,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights, in which images are encoded and decoded."""
        return self.kl.encoder.conv_in.weight.dtype

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, each (B, z, H/f, W/f), of images (B, 3, H, W) in [-1, 1]."""
        mean, logvar = self.kl.encoder(images.to(self.dtype)).chunk(2, dim=1)
        return mean, logvar

    def encode(
        self,
        images: Tensor,
        posterior: Posterior = "mean",
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Latents of images.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            posterior: Take its ``"mean"``, or a ``"sample"`` (what the official code does everywhere).
            noise: Standard normal (B, z, H/f, W/f); given, the posterior is sampled with it.
            generator: Source of the noise of a sample; its device must be that of the images.

        Returns:
            (B, z, H/f, W/f).
        """
        mean, logvar = self.moments(images)
        if posterior == "sample" and noise is None:
            noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        z = mean if noise is None else mean + torch.exp(0.5 * logvar) * noise
        return self.config.scale_factor * (z - self.config.shift_factor)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, z, h, w) to images (B, 3, h·f, w·f), about [-1, 1], not clamped."""
        return self.kl.decoder((latents / self.config.scale_factor + self.config.shift_factor).to(self.dtype))

    def official_names(self) -> dict[str, str]:
        """Our parameter name (below this module) to the name in ``ae.safetensors``."""
        return {name: official_name(name.removeprefix("kl."), len(self.config.ch_mult)) for name in self.state_dict()}

    def official_state(self) -> dict[str, Tensor]:
        """The weights under their official names."""
        return self.to_official(self.state_dict())

    def to_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of this module under official names, where the attention is made of 1 x 1 convolutions."""
        names = self.official_names()
        return {names[k]: v[:, :, None, None] if ".attentions." in k and v.ndim == 2 else v for k, v in state.items()}

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of ``to_official``."""
        ours = self.state_dict()
        return {k: state[name].reshape(ours[k].shape) for k, name in self.official_names().items()}
