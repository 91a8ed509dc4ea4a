"""The image encoder: SigLIP without its last layer, any image size (NaViT), and the connector to the backbone."""

from collections.abc import Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN

from .config import ViTConfig


class SiglipAttention(nn.Module):
    """Multi-head attention within each image."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        width = config.hidden_size
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, lengths: Sequence[int]) -> Tensor:
        """(T, Dv), the tokens of images of ``lengths`` one after the other, to (T, Dv)."""
        qkv = torch.stack([self.q_proj(x), self.k_proj(x), self.v_proj(x)])
        outs, start = [], 0
        for length, run in groupby(lengths):  # images of one size are one batch
            count = len(list(run))
            part = qkv[:, start : start + count * length].reshape(3, count, length, self.num_heads, -1)
            q, k, v = part.transpose(2, 3)
            outs.append(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(count * length, -1))
            start += count * length
        return self.out_proj(torch.cat(outs) if len(outs) > 1 else outs[0])


class SiglipMLP(nn.Module):
    """Two linear layers around an activation."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.act = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(T, Dv) to (T, Dv)."""
        return self.fc2(self.act(self.fc1(x)))


class SiglipLayer(nn.Module):
    """One pre-norm encoder layer."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.self_attn = SiglipAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = SiglipMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, lengths: Sequence[int]) -> Tensor:
        """(T, Dv) to (T, Dv)."""
        x = x + self.self_attn(self.layer_norm1(x), lengths)
        return x + self.mlp(self.layer_norm2(x))


class SiglipEmbeddings(nn.Module):
    """Patches to vectors, plus a learned position. The patch embedding is a linear layer, not a convolution."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        side = config.image_size // config.patch_size
        self.patch_embedding = nn.Linear(config.patch_size**2 * 3, config.hidden_size)
        self.position_embedding = nn.Embedding(side * side, config.hidden_size)

    def forward(self, patches: Tensor, position_ids: Tensor) -> Tensor:
        """Patches (T, P·P·3) in [-1, 1] and ids int64 (T,) to (T, Dv)."""
        return self.patch_embedding(patches) + self.position_embedding(position_ids)


class SiglipEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(SiglipLayer(config) for _ in range(config.layers_used))


class SiglipTransformer(nn.Module):
    """Embeddings, layers and the final norm, which is applied although the last original layer is dropped."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.embeddings = SiglipEmbeddings(config)
        self.encoder = SiglipEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, patches: Tensor, position_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """See ``SiglipNaViT.forward``."""
        x = self.embeddings(patches, position_ids)
        for layer in self.encoder.layers:
            x = layer(x, lengths)
        return self.post_layernorm(x)


class SiglipNaViT(nn.Module):
    """The image encoder of the checkpoint (``vit_model``)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.vision_model = SiglipTransformer(config)

    def forward(self, patches: Tensor, position_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Encode packed images.

        Args:
            patches: (T, P·P·3) in [-1, 1], the images one after the other.
            position_ids: int64 (T,), rows of the position table.
            lengths: Number of patches of each image; sums to T.

        Returns:
            Features (T, Dv).
        """
        return self.vision_model(patches, position_ids, lengths)


class Connector(nn.Module):
    """Image features to the width of the backbone: linear, activation, linear."""

    def __init__(self, width: int, out_width: int, act: str) -> None:
        super().__init__()
        self.act = ACT2FN[act]
        self.fc1 = nn.Linear(width, out_width)
        self.fc2 = nn.Linear(out_width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        """(T, Dv) to (T, D)."""
        return self.fc2(self.act(self.fc1(x)))
