"""BAGEL: one decoder with two experts that reads and writes text, sees images and draws them by flow matching."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .attention import FlexAttention, PackedAttention
from .autoencoder import Autoencoder, Posterior
from .config import BagelConfig
from .embeddings import PositionEmbedding, TimestepEmbedder, grid_position_ids, patchify, take, unpatchify
from .layers import CausalMoT, RMSNorm
from .likelihood import log_probs
from .sequence import Pack
from .vision import Connector, SiglipNaViT


@dataclass
class BagelOutput(ModelOutput):
    """What a packed forward pass returns."""

    loss: Tensor | None = None
    """Scalar: weighted cross entropy plus weighted flow loss."""
    ce_loss: Tensor | None = None
    """Scalar: mean cross entropy."""
    mse_loss: Tensor | None = None
    """Scalar: mean flow loss."""
    ce: Tensor | None = None
    """float32 (C,): minus the log-prob of each predicted token, unweighted, in the order of ``Pack.ce``."""
    entropy: Tensor | None = None
    """float32 (C,): entropy of what each was predicted from, in nats, without gradient; where asked for."""
    mse: Tensor | None = None
    """float32 (N_target,): flow loss of each target token, mean over channels, unweighted."""
    velocity: Tensor | None = None
    """(N_noisy, p·p·z): predicted velocity, noise - clean, at ``Pack.noisy``."""
    hidden: Tensor | None = None
    """(T, D): hidden states after the final norms, flat order."""


class Bagel(PreTrainedModel):
    """The whole model; see ``BagelConfig``."""

    config_class = BagelConfig
    config: BagelConfig
    base_model_prefix = ""
    main_input_name = "pack"
    supports_gradient_checkpointing = True
    _no_split_modules = ("MoTDecoderLayer", "SiglipLayer")
    _supports_sdpa = True
    _supports_flex_attn = True

    def __init__(self, config: BagelConfig) -> None:
        super().__init__(config)
        width = config.llm_config.hidden_size
        self.language_model = CausalMoT(config.llm_config)
        self.time_embedder = TimestepEmbedder(width)
        self.vae2llm = nn.Linear(config.latent_dim, width)
        self.llm2vae = nn.Linear(width, config.latent_dim)
        self.latent_pos_embed = PositionEmbedding(config.max_latent_size, width)
        self.vit_model = SiglipNaViT(config.vit_config)
        self.connector = Connector(config.vit_config.hidden_size, width, config.connector_act)
        self.vit_pos_embed = PositionEmbedding(config.vit_max_num_patch_per_side, width)
        self.vae = Autoencoder(config.vae_config).requires_grad_(False)
        for module in self.vae.modules():  # keeps the initialisation diffusers gave it
            module._is_hf_initialized = True  # type: ignore[assignment]
        self.generation_config = GenerationConfig()  # trainers of language models ask for one
        self.post_init()
        self._init_outputs()

    def _init_weights(self, module: nn.Module) -> None:
        """Draw one module's weights; containers are never passed here."""
        std = self.config.llm_config.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm | RMSNorm):
            nn.init.ones_(module.weight)
            if isinstance(module, nn.LayerNorm):
                nn.init.zeros_(module.bias)
        elif isinstance(module, PositionEmbedding):
            with torch.no_grad():
                module.reset()

    @torch.no_grad()
    def _init_outputs(self) -> None:
        """Scale what writes into the residual stream by 1/sqrt(2 · layers) (GPT-2); begin with velocity 0 (BAGEL)."""
        scale = 1 / math.sqrt(2 * self.config.llm_config.num_hidden_layers)
        for name, weight in self.language_model.named_parameters():
            if ".o_proj" in name or ".down_proj" in name:
                weight.mul_(scale)
        self.llm2vae.weight.zero_()

    @classmethod
    def from_pretrained(cls, path: str | Path, *, dtype: torch.dtype | None = None, **kwargs: Any) -> "Bagel":
        """Read a checkpoint directory; see ``checkpoint.load``."""
        from .checkpoint import load

        return load(path, dtype=dtype, **kwargs)

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the official layout; see ``checkpoint.save``. Of the base class's options only these two matter."""
        from .checkpoint import save

        if is_main_process:
            save(save_directory, self, state=state_dict)

    # Tokens in --------------------------------------------------------------------------------------

    def get_input_embeddings(self) -> nn.Module:
        """What turns ids into embeddings; accelerate shards it apart."""
        return self.language_model.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        """What turns hidden states into logits."""
        return self.language_model.lm_head

    def embed_text(self, ids: Tensor) -> Tensor:
        """Text and marker ids int64 (T,) to embeddings (T, D)."""
        return self.language_model.model.embed_tokens(ids)

    def embed_vit(self, images: Sequence[Tensor]) -> Tensor:
        """Encode images for understanding.

        Args:
            images: Each (3, H, W) in [-1, 1], sides divisible by the patch size.

        Returns:
            Embeddings of all their tokens one after the other, (sum of n_i, D), without markers.
        """
        patch, side = self.config.vit_config.patch_size, self.config.vit_max_num_patch_per_side
        patches = [patchify(image[None], patch)[0] for image in images]
        grids = [(image.shape[-2] // patch, image.shape[-1] // patch) for image in images]
        ids = [grid_position_ids(h, w, side, interpolate=self.config.interpolate_pos) for h, w in grids]
        flat = torch.cat(patches)
        return self.embed_patches(flat, torch.from_numpy(np.concatenate(ids)).to(flat.device), [len(x) for x in ids])

    def embed_patches(self, patches: Tensor, position_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Patches (T, P·P·3) of images of ``lengths`` to embeddings (T, D): encoder, connector, position."""
        features = self.vit_model(patches.to(self.connector.fc1.weight.dtype), position_ids, lengths)
        return self.connector(features) + self.vit_pos_embed(position_ids)

    def embed_latents(self, latents: Tensor, t: Tensor, position_ids: Tensor, image: Tensor | None = None) -> Tensor:
        """Embed latent tokens, noisy or clean.

        Args:
            latents: (T, p·p·z).
            t: Timesteps in [0, 1], 1 = noise; (T,), or (images,) with ``image``.
            position_ids: int64 (T,), see ``latent_position_ids``.
            image: int64 (T,): the image of each token, which saves embedding equal timesteps again and again.

        Returns:
            (T, D).
        """
        time = self.time_embedder(t)
        time = time if image is None else take(time, image)
        return self.vae2llm(latents.to(self.vae2llm.weight.dtype)) + time + self.latent_pos_embed(position_ids)

    def latent_position_ids(self, h: int, w: int) -> Tensor:
        """Rows of the latent position table for an image of h x w latent tokens, int64 (h·w,)."""
        ids = grid_position_ids(h, w, self.config.max_latent_size, interpolate=self.config.interpolate_pos)
        return torch.from_numpy(ids.copy()).to(self.device)

    # Tokens out -------------------------------------------------------------------------------------

    def velocity(self, hidden: Tensor) -> Tensor:
        """Final hidden states of latent tokens (T, D) to velocities (T, p·p·z), pointing from data to noise."""
        return self.llm2vae(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Final hidden states of und tokens (T, D) to logits (T, V)."""
        return self.language_model.lm_head(hidden)

    # Pixels -----------------------------------------------------------------------------------------

    def encode_images(
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        mode: Posterior = "mean",
        noise: Tensor | None = None,
    ) -> Tensor:
        """Encode images to latent tokens.

        Args:
            images: (B, 3, H, W) in [-1, 1], sides divisible by ``config.latent_stride``.
            generator: Source of the noise of a sample.
            mode: ``"mean"`` of the posterior, or a ``"sample"`` as in the official code.
            noise: Standard normal (B, z, H/f, W/f); given, the posterior is sampled with it.

        Returns:
            float (B, tokens, p·p·z).
        """
        latents = self.vae.encode(images, mode, noise=noise, generator=generator)
        return patchify(latents, self.config.latent_patch_size)

    def decode_latents(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        """Latent tokens (B, tokens, p·p·z) of images of ``size`` = (H, W) to pixels (B, 3, H, W), about [-1, 1]."""
        stride = self.config.latent_stride
        grid = (size[0] // stride, size[1] // stride)
        return self.vae.decode(unpatchify(latents, self.config.latent_patch_size, grid))

    @staticmethod
    def to_uint8(images: Tensor) -> Tensor:
        """Pixels (…, 3, H, W) in [-1, 1] to uint8 (…, H, W, 3); truncated, not rounded, as in the official code."""
        scaled = (images.float() * 0.5 + 0.5).clamp(0, 1) * 255
        return scaled.movedim(-3, -1).to(torch.uint8)

    # Training ---------------------------------------------------------------------------------------

    def forward(
        self,
        pack: Pack,
        *,
        ce_weight: float = 1.0,
        mse_weight: float = 1.0,
        reweight_ce: bool = False,
        counts: tuple[float, float] | None = None,
        posterior: Posterior = "mean",
        generator: torch.Generator | None = None,
        flow_noise: Tensor | None = None,
        vae_noise: Tensor | None = None,
        is_prefix_detached: bool = False,
        wants_entropy: bool = False,
    ) -> BagelOutput:
        """One packed forward pass with both losses.

        loss = ce_weight · Σ w·ce / #ce + mse_weight · Σ w·mean_channels((v - (noise - clean))²) / #targets.

        Args:
            pack: Samples, on the device of the model.
            ce_weight: Factor on the mean cross entropy (official: 1).
            mse_weight: Factor on the mean flow loss (official: 1).
            reweight_ce: Average the cross entropy with the weights ``Pack.ce.balance`` (official option, off).
            counts: Numbers of predicted tokens (re-weighted: sum of their weights) and of target tokens to divide by;
                default: the pack's own. A data-parallel run gives the global ones divided by the number of processes.
            posterior: How the images given as pixels are encoded.
            generator: Source of all noise.
            flow_noise: Standard normal (N_latent, p·p·z), instead of drawing it.
            vae_noise: Standard normal (images, z, H/f, W/f) for the padded batch of the images given as pixels.
            is_prefix_detached: Whether noisy images see keys and values of their context without gradient.
            wants_entropy: Whether to return entropies.
        """
        latents = self._clean_latents(pack, posterior, generator, vae_noise)
        latents, target = self._add_noise(pack, latents, generator, flow_noise)
        attention = FlexAttention if self.config._attn_implementation == "flex_attention" else PackedAttention
        hidden = self.language_model.model(
            self.embed_pack(pack, latents),
            pack.positions,
            pack.routing,
            attention(pack, is_prefix_detached),
        )
        velocity = self.velocity(take(hidden[len(hidden) - len(latents) :], pack.noisy))
        predicted = velocity if len(pack.targets) == len(pack.noisy) else take(velocity, pack.targets)
        mse = (predicted.float() - target).square().mean(-1)
        logits = self.logits(take(hidden, pack.ce.index)).float()
        logps, entropy = log_probs(logits, pack.ce, wants_entropy=wants_entropy)
        ce = -logps
        balance = pack.ce.balance if reweight_ce else torch.ones_like(ce)
        num_ce, num_mse = counts or (balance.sum().clamp(min=1e-8), max(len(mse), 1))
        ce_loss = (ce * pack.ce.weights * balance).sum() / num_ce
        mse_loss = (mse * pack.mse_weights).sum() / num_mse
        return BagelOutput(
            loss=ce_weight * ce_loss + mse_weight * mse_loss,
            ce_loss=ce_loss,
            mse_loss=mse_loss,
            ce=ce,
            entropy=entropy,
            mse=mse,
            velocity=velocity,
            hidden=hidden,
        )

    def embed_pack(self, pack: Pack, latents: Tensor) -> Tensor:
        """Embeddings of all tokens of a pack, flat order (T, D), with ``latents`` (N_latent, p·p·z) as they stand."""
        parts = [self.embed_text(pack.text_ids)]
        if pack.vit_lengths:
            parts.append(self.embed_patches(pack.vit_patches, pack.vit_position_ids, pack.vit_lengths))
        if len(latents):
            parts.append(self.embed_latents(latents, pack.times, pack.latent_position_ids, pack.latent_image))
        return torch.cat(parts)

    def _clean_latents(
        self, pack: Pack, posterior: Posterior, generator: torch.Generator | None, noise: Tensor | None
    ) -> Tensor:
        """The pack's latents, with images given as pixels encoded as one batch, zero-padded as in the official code."""
        if not pack.pixels:
            return pack.latents
        height, width = (max(x.shape[i] for x in pack.pixels) for i in (-2, -1))
        batch = [F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2])) for x in pack.pixels]
        with torch.no_grad():
            encoded = self.vae.encode(torch.stack(batch), posterior, noise=noise, generator=generator)
        latents, patch = pack.latents.clone(), self.config.latent_patch_size
        for z, (start, h, w) in zip(encoded, pack.pixel_spans, strict=True):
            latents[start : start + h * w] = patchify(z[None, :, : h * patch, : w * patch], patch)[0]
        return latents

    def _add_noise(
        self, pack: Pack, latents: Tensor, generator: torch.Generator | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Noise the target tokens: (all latents, the targets' velocities noise - clean)."""
        chosen = pack.noisy[pack.targets]
        clean = latents[chosen]
        if noise is None:
            drawn = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        else:
            drawn = noise[chosen]
        t = pack.times[pack.latent_image[chosen]][:, None]
        return latents.index_copy(0, chosen, (1 - t) * clean + t * drawn), drawn - clean
