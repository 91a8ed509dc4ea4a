"""The tokenizer: the official Qwen2 files, the four special tokens BAGEL adds, and their ids."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """Ids of the special tokens, under the official names."""

    bos_token_id: int
    """``<|im_start|>``"""
    eos_token_id: int
    """``<|im_end|>``"""
    start_of_image: int
    """``<|vision_start|>``"""
    end_of_image: int
    """``<|vision_end|>``"""
