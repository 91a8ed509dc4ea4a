"""The backbone: Qwen2 as a Mixture of Transformers.

Every token belongs to one of two experts, complete sets of weights: *und* (text, image markers and
image-encoder tokens) and *gen* (latents of the autoencoder; weights named ``…_moe_gen``). The experts
meet only in attention, which is over all tokens and is injected as an ``Attend``.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import LLMConfig

UND, GEN = "", "_moe_gen"
"""Suffix of each expert's weights in the state dict."""


class Attend(Protocol):
    """Attention over flat tokens; who sees whom, caching and grouped heads are the implementer's."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (T, Hq, d), k and v (T, Hkv, d), after q/k norm and RoPE, to (T, Hq, d)."""
        ...


class Routing(NamedTuple):
    """Which flat tokens go to which expert."""

    und: Tensor
    """int64, ascending: indices of the und tokens."""
    gen: Tensor
    """int64, ascending: indices of the gen tokens. Together the two cover 0 … T-1."""
    ordered: bool = False
    """True says that all und tokens precede all gen tokens; then nothing has to be gathered."""


class _Rows(torch.autograd.Function):
    """Gather rows by a permutation; the backward gathers by the inverse, much cheaper than a scatter-add."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grads[0].index_select(0, inverse), None, None


class _Router:
    """Splits flat tokens by expert and merges them again."""

    def __init__(self, routing: Routing) -> None:
        self.sizes = (len(routing.und), len(routing.gen))
        self.order: Tensor | None = None
        if all(self.sizes) and not routing.ordered:
            self.order = torch.cat([routing.und, routing.gen])
            self.inverse = torch.argsort(self.order)

    def split(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Flat (T, …) to the rows of und and of gen; ``None`` for an expert without tokens."""
        if not all(self.sizes):
            return (x, None) if self.sizes[0] else (None, x)
        und, gen = (x if self.order is None else _Rows.apply(x, self.order, self.inverse)).split(self.sizes)
        return und, gen

    def merge(self, parts: Sequence[Tensor]) -> Tensor:
        """The inverse of ``split``, given the parts that are not ``None``."""
        if len(parts) == 1:
            return parts[0]
        x = torch.cat(list(parts))
        return x if self.order is None else _Rows.apply(x, self.inverse, self.order)


def _normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x·r in the dtype of ``x``, and r = 1/sqrt(mean(x²) + ε) in float32."""
    h = x.float()
    width = h.shape[-1]
    square = (h * h).view(-1, width)
    if not x.is_meta and torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            squares = torch.mv(square, h.new_full((width,), 1 / width))
    else:
        squares = torch.mv(square, h.new_full((width,), 1 / width))
    scale = torch.rsqrt(squares + eps).view(*h.shape[:-1], 1)
    return (h * scale).to(x.dtype), scale


class _RMSNorm(torch.autograd.Function):
    """``RMSNorm`` with its gradient in closed form: a fraction of the passes over memory, and of what is kept.

    With n = x·r and r = 1/sqrt(mean(x²) + ε): dx = r·(w·g - n·mean(w·g·n)), dw = sum(g·n).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed, scale = _normalise(x, eps)
        ctx.save_for_backward(normed, weight, scale)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        normed, weight, scale = ctx.saved_tensors
        n, g, width = normed.float(), grads[0].float(), normed.shape[-1]
        both = (g * n).view(-1, width)
        mean = torch.mv(both, weight.float() / -width).view(scale.shape)
        dx = torch.addcmul(g * weight, n, mean).mul_(scale)
        dw = both.sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        return dx.to(normed.dtype), dw, None


class RMSNorm(nn.Module):
    """y = w · x / sqrt(mean(x²) + ε), in float32, cast back before the multiplication by w."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension; shape and dtype of ``x`` stay."""
        if torch.is_grad_enabled():
            return _RMSNorm.apply(x.contiguous(), self.weight, self.eps)
        return _normalise(x.contiguous(), self.eps)[0] * self.weight  # the same numbers, without the bookkeeping


def rotary_angles(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of position · θ^(-2j/d), each (T, 1, d); the first half of sin is negated, see ``rotate``."""
    steps = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device)
    angles = positions.float()[:, None] * theta ** (-steps / head_dim)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], -1)[:, None].to(dtype), torch.cat([-sin, sin], -1)[:, None].to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding, rotate-half convention: x·cos + swap-halves(x)·sin with the sign in ``sin``."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class MoTAttention(nn.Module):
    """Projections and per-head q/k norms of both experts; the attention itself is injected."""

    def __init__(self, config: LLMConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        width, kv_width = config.hidden_size, config.num_key_value_heads * config.head_dim
        for expert in (UND, GEN):
            self.add_module(f"q_proj{expert}", nn.Linear(width, width))
            self.add_module(f"k_proj{expert}", nn.Linear(width, kv_width))
            self.add_module(f"v_proj{expert}", nn.Linear(width, kv_width))
            self.add_module(f"o_proj{expert}", nn.Linear(width, width, bias=False))
            self.add_module(f"q_norm{expert}", RMSNorm(config.head_dim, config.rms_norm_eps))
            self.add_module(f"k_norm{expert}", RMSNorm(config.head_dim, config.rms_norm_eps))

    def project(self, x: Tensor, expert: str) -> tuple[Tensor, Tensor, Tensor]:
        """Normed hidden (n, D) of one expert's tokens to q (n, Hq, d), k and v (n, Hkv, d), before RoPE."""
        q, k, v = (getattr(self, f"{name}_proj{expert}")(x).view(len(x), -1, self.head_dim) for name in "qkv")
        return getattr(self, f"q_norm{expert}")(q), getattr(self, f"k_norm{expert}")(k), v

    def out(self, x: Tensor, expert: str) -> Tensor:
        """Attention output (n, Hq·d) of one expert's tokens to (n, D)."""
        return getattr(self, f"o_proj{expert}")(x)


class MLP(nn.Module):
    """The gated MLP of Qwen2: down(silu(gate(x)) · up(x)), no biases."""

    def __init__(self, config: LLMConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, D) to (n, D)."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MoTDecoderLayer(nn.Module):
    """One pre-norm decoder layer with two experts."""

    def __init__(self, config: LLMConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.self_attn = MoTAttention(config)
        for expert in (UND, GEN):
            self.add_module(f"mlp{expert}", MLP(config))
            for name in ("input_layernorm", "post_attention_layernorm"):
                self.add_module(f"{name}{expert}", RMSNorm(config.hidden_size, config.rms_norm_eps))

    def forward(
        self, und: Tensor | None, gen: Tensor | None, rotary: tuple[Tensor, Tensor], router: _Router, attend: Attend
    ) -> tuple[Tensor | None, Tensor | None]:
        """Hidden rows of the two experts, (n_und, D) and (n_gen, D), through the layer; ``None`` stays ``None``."""
        streams = {expert: x for expert, x in ((UND, und), (GEN, gen)) if x is not None}
        normed = {expert: getattr(self, f"input_layernorm{expert}")(x) for expert, x in streams.items()}
        q, k, v = map(
            router.merge, zip(*(self.self_attn.project(x, expert) for expert, x in normed.items()), strict=True)
        )
        mixed = attend(self.index, rotate(q, *rotary), rotate(k, *rotary), v).flatten(1)
        outs: list[Tensor | None] = []
        for expert, part in zip((UND, GEN), router.split(mixed), strict=True):
            if part is None:
                outs.append(None)
                continue
            x = streams[expert] + self.self_attn.out(part, expert)
            outs.append(x + getattr(self, f"mlp{expert}")(getattr(self, f"post_attention_layernorm{expert}")(x)))
        return outs[0], outs[1]


class MoTModel(nn.Module):
    """Embedding table, decoder layers and the two final norms (``language_model.model`` of the checkpoint)."""

    _gradient_checkpointing_func: Callable[..., Any]

    def __init__(self, config: LLMConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(MoTDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.norm_moe_gen = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden: Tensor, positions: Tensor, routing: Routing, attend: Attend) -> Tensor:
        """Run the decoder.

        Args:
            hidden: Embeddings of the flat tokens, (T, D).
            positions: Rotary position of each, int64 (T,).
            routing: Expert of each.
            attend: Attention, called once per layer.

        Returns:
            Hidden states after the final norm of each token's expert, (T, D).
        """
        router = _Router(routing)
        rotary = rotary_angles(positions, self.config.head_dim, self.config.rope_theta, hidden.dtype)
        und, gen = router.split(hidden)
        for layer in self.layers:
            if self.gradient_checkpointing and self.training:
                und, gen = self._gradient_checkpointing_func(layer.__call__, und, gen, rotary, router, attend)
            else:
                und, gen = layer(und, gen, rotary, router, attend)
        parts = [norm(x) for norm, x in ((self.norm, und), (self.norm_moe_gen, gen)) if x is not None]
        return router.merge(parts)


class CausalMoT(nn.Module):
    """The decoder and its head (``language_model`` of the checkpoint)."""

    def __init__(self, config: LLMConfig) -> None:
        super().__init__()
        self.model = MoTModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie(config)

    def tie(self, config: LLMConfig) -> None:
        """Let the head share the embedding table where the configuration says so."""
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
