"""Pairwise: which of two pictures is the better one for a prompt, asked in both orders.

Judges favour a place, the first or the last, whatever stands there. Each pair is shown both ways round and the answers
are averaged: a judge that goes by the place alone then says 0.5. A pair of which one picture speaks to the judge is not
compared, for which of them spoke is not known: a draw would pay whichever one loses for speaking.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .question import Judge, Question, Request, Verdict

FIRST, SECOND, NEITHER = "first", "second", "neither"
QUESTION = Question(
    name="prefer",
    instructions=(
        "You see two pictures that were made for the same prompt. Say which of them shows more exactly what the prompt "
        "asks for: every object in its number, colour and place, and no object besides. Where both do so equally well, "
        "say neither. In which order they are shown means nothing."
    ),
    choices=(FIRST, SECOND, NEITHER),
    notes=("explanation",),
)
VALUES = {FIRST: 1.0, SECOND: 0.0, NEITHER: 0.5}


class Pair(NamedTuple):
    """Two pictures for one prompt, uint8 (height, width, 3) each."""

    prompt: str
    left: np.ndarray
    right: np.ndarray


def preferences(judge: Judge, pairs: Sequence[Pair], question: Question = QUESTION) -> list[float | None]:
    """How much the left picture of each pair is preferred: 1, it alone; 0.5, neither; 0, the right one alone.

    Args:
        judge: Who is asked, twice for each pair.
        pairs: What is compared.
        question: With the choices of ``QUESTION``, in other words.

    Returns:
        One value in [0, 1] for each pair, in order; ``None`` where one of the two answers is missing, or one of the
        pictures speaks to the judge.
    """
    if question.choices != QUESTION.choices:
        raise ValueError(f"Expected a question with the choices {QUESTION.choices}, got {question.choices}.")
    orders = [[(pair.left, pair.right), (pair.right, pair.left)] for pair in pairs]
    requests = [
        Request(question=question, fields={"prompt": pair.prompt}, images=images)
        for pair, both in zip(pairs, orders, strict=True)
        for images in both
    ]
    values = [_value(verdict) for verdict in judge.ask(requests)]
    return [
        None if ahead is None or behind is None else (ahead + 1 - behind) / 2
        for ahead, behind in zip(values[::2], values[1::2], strict=True)
    ]


def _value(verdict: Verdict) -> float | None:
    """How much the picture that was shown first is preferred."""
    if verdict.status != "ok" or verdict.data is None or verdict.data.get("is_guarded"):
        return None
    return VALUES[verdict.data["choice"]]
