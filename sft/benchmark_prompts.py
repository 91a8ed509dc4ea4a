"""Prompts of benchmarks, which no training data may hold: recognised by their normalised text.

GenEval's 553 and what the mini-world is evaluated on. WISE's prompts are not shipped: whoever trains on prompts from
elsewhere passes them as ``others``.
"""

import functools
import unicodedata
from collections.abc import Collection

from ..envs.scenes.knowledge import knowledge_items
from ..envs.scenes.tasks import heldout
from ..rewards.geneval_prompts import geneval_prompts


def normalised(prompt: str) -> str:
    """A prompt without what does not change what it asks for: capitals, marks, doubled blanks, kinds of letters."""
    folded = unicodedata.normalize("NFKC", prompt).casefold()
    return " ".join("".join(letter if letter.isalnum() else " " for letter in folded).split())


def is_benchmark(prompt: str, others: Collection[str] = ()) -> bool:
    """Whether a benchmark asks for this.

    Args:
        prompt: As it is; it is normalised here.
        others: Normalised prompts of further benchmarks.
    """
    text = normalised(prompt)
    return text in benchmark_prompts() or text in others


@functools.cache
def benchmark_prompts() -> frozenset[str]:
    """All of them, normalised; of the mini-world's tasks those that are not in every split."""
    scenes = [task.prompt for task in heldout() if not task.seen]
    prompts = [entry["prompt"] for entry in geneval_prompts()] + [item.prompt for item in knowledge_items()] + scenes
    return frozenset(map(normalised, prompts))
