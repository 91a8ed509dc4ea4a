"""The tokenizer: the official Qwen2 files, the four special tokens of BAGEL, and their ids."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer

SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
"""The tokens BAGEL needs, in the order in which missing ones are added."""


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


class Tokenizer:
    """Text to ids and back; adds no markers of its own."""

    def __init__(self, base: PreTrainedTokenizerBase) -> None:
        """Add what is missing of ``SPECIAL_TOKENS`` to ``base``, as ordinary added tokens (official rule)."""
        present: set[str] = set()
        for value in base.special_tokens_map.values():
            present.update([value] if isinstance(value, str) else value)
        present.update(map(str, base.all_special_tokens))
        self.num_added = base.add_tokens([token for token in SPECIAL_TOKENS if token not in present])
        self.base = base
        bos, eos, start, end = base.convert_tokens_to_ids(list(SPECIAL_TOKENS))
        self.ids = TokenIds(bos_token_id=bos, eos_token_id=eos, start_of_image=start, end_of_image=end)
        added = sorted(base.get_added_vocab(), key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, added)))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the tokenizer files of a checkpoint directory."""
        if not (Path(path) / "vocab.json").exists() and not (Path(path) / "tokenizer.json").exists():
            raise ValueError(
                f"Expected tokenizer.json, or vocab.json and merges.txt, in {path}, got neither; copy the "
                "tokenizer files of the official checkpoint there."
            )
        return cls(Qwen2Tokenizer.from_pretrained(str(path), local_files_only=True))

    def save(self, path: str | Path) -> None:
        """Write the tokenizer files into a directory."""
        self.base.save_pretrained(str(path))

    def __len__(self) -> int:
        """Number of ids, added tokens included."""
        return len(self.base)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of a text.

        Args:
            text: Any text.
            special: Whether strings such as ``<|im_start|>`` become the special ids, as in the official code.
                ``False``: they are ordinary text, whatever stands in it (for words from outside).
        """
        if special:
            return self._encode(text)
        pieces, start = [], 0
        for match in self._added.finditer(text):  # cut every special string in two; neither half is special
            pieces.append(text[start : match.start() + 1])
            start = match.start() + 1
        return [i for piece in [*pieces, text[start:]] for i in self._encode(piece)]

    def _encode(self, text: str) -> list[int]:
        return self.base.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens included; broken UTF-8 becomes U+FFFD."""
        return self.base.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
