"""True answers about the mini-world, for the truthful server: one entry for each question it is asked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from strokes.envs.scenes.detect import detect
from strokes.envs.scenes.tasks import verdict
from strokes.rewards.review import graph_of_task

Fields = Mapping[str, Any]
Images = Sequence[np.ndarray]


def outcome(fields: Fields, images: Images) -> dict[str, str]:
    """Whether a picture is exactly what its prompt asks for."""
    graph = graph_of_task(fields["prompt"], {})
    assert graph is not None, fields
    judged = verdict(detect(images[-1]), graph.to_meta())
    return {"choice": "yes" if judged.strict else "no", "explanation": "; ".join(judged.reasons), "correction": ""}


ANSWERS: dict[str, Callable[[Fields, Images], Mapping[str, str]]] = {
    "outcome": outcome,
}
"""Guarded questions by name: the choice, and what notes there are to say (others are left empty)."""

SAYS: dict[str, Callable[[Fields, Images], str]] = {}
"""Questions answered in free text, by the "question" of their block of JSON."""

HEARD: list[tuple[Callable[[str], bool], Callable[[str, Images], str]]] = []
"""Questions without such a block: whether a text is meant, and what is said to it."""
