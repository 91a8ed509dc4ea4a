"""Make the tokenizer of a tiny model: BAGEL's kind of tokenizer, trained on the mini-world's language.

A byte-level BPE with Qwen2's word splitting and BAGEL's special tokens, so that the files are read by
the same code as those of the 7B model. Every word of the language becomes one token; anything else
falls back to bytes. The tags of the process are ordinary added tokens: one id each.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ..envs.scenes.language import VOCABULARY

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's word splitting, as published with its tokenizer."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
TAGS = tuple(f"<{slash}{tag}>" for tag in ("ins", "des", "refine") for slash in ("", "/"))


LANGUAGE = tuple(f"{before}{word}" for word in VOCABULARY for before in ("", " ", ">", " a "))
"""Every word of the mini-world in each position it occurs in."""


def build_tokenizer(out: Path, texts: Iterable[str] = LANGUAGE, vocab_size: int = 1024) -> int:
    """Train on ``texts`` and write the official file set into ``out``.

    Args:
        out: Folder for ``tokenizer.json``, ``vocab.json``, ``merges.txt`` and, last, ``tokenizer_config.json``.
        texts: Examples of the language.
        vocab_size: Upper bound of the trained part; training stops earlier when every text is one token.

    Returns:
        The number of ids, special tokens and tags included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=1, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    tokenizer.model.save(str(out))
    (out / "tokenizer_config.json").write_text(json.dumps(_config(tokenizer), indent=1))
    return tokenizer.get_vocab_size()


def _config(tokenizer: Tokenizer) -> dict[str, Any]:
    """What ``tokenizer_config.json`` of a Qwen2 tokenizer holds."""
    added = {
        str(index): {
            "content": token.content,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token.special,
        }
        for index, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": list(SPECIAL[1:]),
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
