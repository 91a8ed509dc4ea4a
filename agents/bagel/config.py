"""Configuration of BAGEL: the values of the official JSON files, plus what the official code hard-codes.

Field names are those of ``llm_config.json``, ``vit_config.json`` and ``config.json`` of the released
checkpoint; the defaults are the released BAGEL-7B-MoT (ByteDance-Seed/Bagel).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from transformers import PretrainedConfig


def _known(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of ``values`` that ``cls`` has a field for; JSON files of the hub carry many more."""
    names = {f.name for f in fields(cls)}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMConfig:
    """The Qwen2 backbone of which BAGEL holds two sets of weights (``llm_config.json``)."""

    hidden_size: int = 3584
    """Width D of the hidden states."""
    intermediate_size: int = 18944
    """Width of the gated MLP."""
    num_hidden_layers: int = 28
    """Number of decoder layers."""
    num_attention_heads: int = 28
    """Number of query heads."""
    num_key_value_heads: int = 4
    """Number of key and value heads (grouped-query attention)."""
    vocab_size: int = 152064
    """Rows of the embedding table; the tokenizer may use fewer."""
    rope_theta: float = 1e6
    """Base of the rotary frequencies."""
    rms_norm_eps: float = 1e-6
    """Epsilon of every RMSNorm."""
    tie_word_embeddings: bool = False
    """Whether the head shares the embedding table."""
    initializer_range: float = 0.02
    """Standard deviation of freshly drawn weights."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                "Expected hidden_size divisible by num_attention_heads and that by num_key_value_heads, got "
                f"{self.hidden_size}, {self.num_attention_heads}, {self.num_key_value_heads}."
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class ViTConfig:
    """The SigLIP image encoder (``vit_config.json``)."""

    hidden_size: int = 1152
    """Width of the encoder."""
    intermediate_size: int = 4304
    """Width of its MLP."""
    num_hidden_layers: int = 27
    """Layers of the original encoder. BAGEL drops the last one, see ``layers_used``."""
    num_attention_heads: int = 16
    """Number of attention heads."""
    patch_size: int = 14
    """Side of a patch in pixels."""
    image_size: int = 980
    """Side in pixels of the largest square the position table was made for."""
    layer_norm_eps: float = 1e-6
    """Epsilon of every LayerNorm."""
    hidden_act: str = "gelu_pytorch_tanh"
    """Activation of the MLP."""

    @property
    def layers_used(self) -> int:
        """Number of encoder layers in the model and in its checkpoint: one fewer than in the file."""
        return self.num_hidden_layers - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VAEConfig:
    """The FLUX autoencoder, whose geometry the official loader hard-codes."""

    in_channels: int = 3
    """Colour channels of the input."""
    out_ch: int = 3
    """Colour channels of the output."""
    ch: int = 128
    """Base width."""
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    """Width of each resolution level in multiples of ``ch``."""
    num_res_blocks: int = 2
    """Residual blocks per level of the encoder; the decoder has one more."""
    z_channels: int = 16
    """Channels z of the latent."""
    scale_factor: float = 0.3611
    """Latent = scale · (posterior sample - shift)."""
    shift_factor: float = 0.1159
    """See ``scale_factor``."""
    norm_num_groups: int = 32
    """Groups of every GroupNorm; must divide every width."""

    @property
    def downsample(self) -> int:
        """Pixels per latent cell, along each side."""
        return 2 ** (len(self.ch_mult) - 1)


class BagelConfig(PretrainedConfig):
    """Configuration of a whole BAGEL: backbone, image encoder, autoencoder and what joins them."""

    model_type = "bagel"

    def __init__(
        self,
        *,
        llm_config: LLMConfig | Mapping[str, Any] | None = None,
        vit_config: ViTConfig | Mapping[str, Any] | None = None,
        vae_config: VAEConfig | Mapping[str, Any] | None = None,
        latent_patch_size: int = 2,
        max_latent_size: int = 64,
        vit_max_num_patch_per_side: int = 70,
        connector_act: str = "gelu_pytorch_tanh",
        interpolate_pos: bool = False,
        timestep_shift: float = 1.0,
        vae_transform: tuple[int, int, int] = (1024, 512, 16),
        vit_transform: tuple[int, int, int] = (980, 224, 14),
        **kwargs: Any,
    ) -> None:
        """Args:

        llm_config: Backbone, as a record or as the content of ``llm_config.json``.
        vit_config: Image encoder, as a record or as the content of ``vit_config.json``.
        vae_config: Autoencoder.
        latent_patch_size: Side p of the square of latent cells that makes one token.
        max_latent_size: Side of the grid of the latent position table.
        vit_max_num_patch_per_side: Side of the grid of both image-patch position tables.
        connector_act: Activation of the connector.
        interpolate_pos: Whether grid positions are scaled to the image instead of counted from its corner.
        timestep_shift: Shift S of the training timesteps, t → S·t / (1 + (S - 1)·t).
        vae_transform: (largest side, smallest side, stride) in pixels of images for the autoencoder.
        vit_transform: The same for the image encoder.
        kwargs: Further keys of ``config.json``, kept by the base class.
        """
        llm, vit, vae = llm_config or {}, vit_config or {}, vae_config or {}
        self.llm_config = llm if isinstance(llm, LLMConfig) else LLMConfig(**_known(LLMConfig, llm))
        self.vit_config = vit if isinstance(vit, ViTConfig) else ViTConfig(**_known(ViTConfig, vit))
        self.vae_config = vae if isinstance(vae, VAEConfig) else VAEConfig(**_known(VAEConfig, vae))
        self.latent_patch_size = latent_patch_size
        self.max_latent_size = max_latent_size
        self.vit_max_num_patch_per_side = vit_max_num_patch_per_side
        self.connector_act = connector_act
        self.interpolate_pos = interpolate_pos
        self.timestep_shift = timestep_shift
        self.vae_transform = tuple(vae_transform)
        self.vit_transform = tuple(vit_transform)
        side = self.vit_config.image_size // self.vit_config.patch_size
        if side != vit_max_num_patch_per_side:
            raise ValueError(
                "Expected vit_config.image_size / patch_size == vit_max_num_patch_per_side (one set of position ids "
                f"indexes both tables), got {side} and {vit_max_num_patch_per_side}."
            )
        super().__init__(**{**kwargs, "tie_word_embeddings": self.llm_config.tie_word_embeddings})

    @property
    def latent_dim(self) -> int:
        """Channels of one latent token, p·p·z."""
        return self.latent_patch_size**2 * self.vae_config.z_channels

    @property
    def latent_stride(self) -> int:
        """Side in pixels of the square that one latent token stands for."""
        return self.latent_patch_size * self.vae_config.downsample

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; ``BagelConfig(**d)`` is the inverse."""
        parts = {name: asdict(getattr(self, name)) for name in ("llm_config", "vit_config", "vae_config")}
        return super().to_dict() | parts

    @classmethod
    def bagel_7b(cls, **changes: Any) -> Self:
        """The released BAGEL-7B-MoT."""
        return cls(**changes)

    @classmethod
    def tiny(cls, vocab_size: int = 256, **changes: Any) -> Self:
        """About 3 M parameters: learns the mini-world on two CPU cores (docs: measured recipe of bagel-tiny)."""
        values: dict[str, Any] = dict(
            llm_config=LLMConfig(
                hidden_size=128,
                intermediate_size=352,
                num_hidden_layers=6,
                num_attention_heads=4,
                num_key_value_heads=4,
                vocab_size=vocab_size,
                rope_theta=1e4,
                initializer_range=0.05,
            ),
            vit_config=ViTConfig(
                hidden_size=96,
                intermediate_size=192,
                num_hidden_layers=3,
                num_attention_heads=3,
                patch_size=16,
                image_size=128,
            ),
            vae_config=VAEConfig(
                ch=16, num_res_blocks=1, scale_factor=1.0, shift_factor=0.0, norm_num_groups=8, z_channels=16
            ),
            max_latent_size=8,
            vit_max_num_patch_per_side=8,
            timestep_shift=3.0,
            vae_transform=(48, 48, 16),
            vit_transform=(48, 48, 16),
        )
        return cls(**(values | changes))

    @classmethod
    def nano(cls, vocab_size: int = 256, **changes: Any) -> Self:
        """A tenth of ``tiny`` beside the same autoencoder: trains in minutes, for tests and runs over many seeds."""
        values: dict[str, Any] = dict(
            llm_config=LLMConfig(
                hidden_size=64,
                intermediate_size=176,
                num_hidden_layers=4,
                num_attention_heads=2,
                num_key_value_heads=2,
                vocab_size=vocab_size,
                rope_theta=1e4,
                initializer_range=0.07,
            ),
            vit_config=ViTConfig(
                hidden_size=48,
                intermediate_size=96,
                num_hidden_layers=2,
                num_attention_heads=2,
                patch_size=16,
                image_size=128,
            ),
        )
        return cls.tiny(vocab_size, **(values | changes))
