"""Adapters of BAGEL: which of its matrices get them. Used by supervised training and reinforcement learning alike."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .command import check_choice, check_number

if TYPE_CHECKING:
    from peft import LoraConfig

MATRICES = r"language_model\.model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj{0}|mlp{0}\.(gate|up|down)_proj)"
"""Matrices with adapters: those of all layers (flow_grpo, verl-omni, UniRL), of the experts named."""
EXPERTS = {"both": "(_moe_gen)?", "und": "", "gen": "_moe_gen"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Adapters."""

    rank: int
    alpha: int
    experts: str

    def __post_init__(self) -> None:
        check_number("lora.rank", self.rank, 1)
        check_number("lora.alpha", self.alpha, 1)
        check_choice("lora.experts", self.experts, EXPERTS)


def adapters(lora: Lora) -> "LoraConfig":
    """PEFT's settings."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=MATRICES.format(EXPERTS[lora.experts]),
        init_lora_weights="gaussian",  # flow_grpo, verl-omni
    )
