"""True answers about the mini-world, for the truthful server: one entry for each question it is asked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from remote_truth import criticise, decompose
from story_truth import detour, edit_filter, narrate, rewrite, story
from wise_truth import is_wise, wise_in_words, wise_v1, wise_verified

from strokes.envs.markup import Plan
from strokes.envs.scenes.detect import detect
from strokes.envs.scenes.tasks import verdict
from strokes.rewards.critics import Query
from strokes.rewards.exact import ExactCritic
from strokes.rewards.review import graph_of_task

Fields = Mapping[str, Any]
Images = Sequence[np.ndarray]


def outcome(fields: Fields, images: Images) -> dict[str, str]:
    """Whether a picture is exactly what its prompt asks for."""
    return _said(Query(kind="outcome", prompt=fields["prompt"], canvas=images[-1]))


def plan(fields: Fields, images: Images) -> dict[str, str]:
    """Whether a plan is true to its prompt, on the canvas before it."""
    return _said(
        Query(
            kind="plan",
            prompt=fields["prompt"],
            plan=_plan(fields["plan"]),
            earlier=tuple(str(Plan(words, "-")) for words in fields.get("earlier_instructions", ())),
            is_corrected=fields["replaces_a_wrong_plan"],
            before=images[0] if images else None,
        )
    )


def sketch(fields: Fields, images: Images) -> dict[str, str]:
    """Whether a sketch, the last image, is true to its plan."""
    *before, canvas = images
    return _said(
        Query(
            kind="sketch",
            prompt="",
            plan=_plan(fields["plan"]),
            before=before[0] if before else None,
            canvas=canvas,
        )
    )


def _plan(words: Mapping[str, str]) -> str:
    return str(Plan(words["instruction"], words["description"]))


def _said(query: Query) -> dict[str, str]:
    (judgement,) = ExactCritic().judge([query])
    if judgement.p_yes is None:
        raise LookupError(query.prompt)
    choice = "yes" if judgement.p_yes else "no"
    return {"choice": choice, "explanation": judgement.explanation, "correction": judgement.correction}


def prefer(fields: Fields, images: Images) -> dict[str, str]:
    """Which of two pictures is more exactly what the prompt asks for."""
    graph = graph_of_task(fields["prompt"], {})
    assert graph is not None, fields
    first, second = (verdict(detect(image), graph.to_meta()).soft for image in images)
    return {"choice": "neither" if first == second else "first" if first > second else "second"}


ANSWERS: dict[str, Callable[[Fields, Images], Mapping[str, str]]] = {
    "outcome": outcome,
    "plan": plan,
    "sketch": sketch,
    "prefer": prefer,
    "story": story,
    "detour": detour,
    "edit_filter": edit_filter,
}
"""Guarded questions by name: the choice, and what notes there are to say (others are left empty)."""

SAYS: dict[str, Callable[[Fields, Images], str]] = {
    "decompose": decompose,
    "criticise": criticise,
    "narrate": narrate,
    "rewrite": rewrite,
    "wise_v1": wise_v1,
    "wise_verified": wise_verified,
}
"""Questions answered in free text, by the "question" of their block of JSON."""

HEARD: list[tuple[Callable[[str], bool], Callable[[str, Images], str]]] = [(is_wise, wise_in_words)]
"""Questions without such a block: whether a text is meant, and what is said to it."""
