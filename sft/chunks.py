"""Chunks: the slices in which a subset is made, each by itself and in any process."""

from ..agents.command import check_number
from ..agents.scripted import Habits
from .scene_prompts import SPLITS, VALIDATION_EVERY

CHUNK = 500
"""Samples of a full chunk; a shard of 0.8 to 1 MB of the mini-world."""


def check_chunks(split: str, num: int, chunk_size: int) -> None:
    """``ValueError`` unless there are such a split, samples and chunks."""
    if split not in SPLITS:
        raise ValueError(f"Expected split among {', '.join(SPLITS)}, got {split!r}.")
    check_number("num", num, 1)
    check_number("chunk_size", chunk_size, 1)


def check_drawings(split: str, num: int, chunk_size: int, detour_rate: float) -> None:
    """Likewise, of the mini-world."""
    check_chunks(split, num, chunk_size)
    Habits(detour_rate=detour_rate)  # says what is wrong with it


def num_chunks(total: int, chunk_size: int) -> int:
    """How many chunks ``total`` samples make; the last one may be shorter."""
    return -(-total // chunk_size)


def numbers(chunk: int, num: int, total: int, chunk_size: int) -> range:
    """The numbers of the first ``num`` samples of a chunk; as many as there are.

    Raises:
        ValueError: There is no such chunk among ``total`` samples, or ``num`` is below 1.
    """
    chunks = num_chunks(total, chunk_size)
    if not 0 <= chunk < chunks or num < 1:
        raise ValueError(f"Expected chunk in [0, {chunks}) and num of at least 1, got {chunk!r} and {num!r}.")
    start = chunk * chunk_size
    return range(start, min(start + num, start + chunk_size, total))


def place_of(number: int, chunks: int) -> tuple[str, int]:
    """The one split and chunk of what has a hash, of which ``number`` is a part, and no number of its own."""
    return SPLITS[number % VALIDATION_EVERY == 0], number // VALIDATION_EVERY % chunks
