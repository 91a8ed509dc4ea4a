"""Edit filter: whether a painted step is what its plan says, asked of a vision-language model.

The judge sees the picture before the step and after it, as benchmarks of image editing show them: an editor may draw
what it should and yet drift in what it should leave alone (specification of the filter: our own; the paper, arXiv
2604.04746, says only that a model filtered the edits).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..envs.markup import Plan
from ..rewards.critics import NO, YES
from ..rewards.question import Judge, Question, Request, Verdict

CHECKS = ("objects_ok", "relations_ok", "preserved_ok", "artefacts_ok")
"""What the judge looks at, in this order, before it decides."""
QUESTION = Question(
    name="edit_filter",
    instructions=(
        "You decide whether one step of a picture that is made in steps may be learnt from. The last image is the "
        "picture after the step, the one before it, where there are two, the picture before it; the plan says what the "
        "step was to do and how the picture shall look after it. Answer each of these with yes, or with no and what is "
        "wrong: objects_ok, every object of the description is there in its number and with its attributes, and no "
        "other that matters; relations_ok, the objects stand to each other as described; preserved_ok, what the "
        "instruction does not name, background and style included, looks as before (yes where there is no picture "
        "before); artefacts_ok, nothing is deformed, doubled or unfinished. Then choose: yes if all four are yes, "
        "else no."
    ),
    choices=(YES, NO),
    notes=CHECKS,
)


class Painted(NamedTuple):
    """One step as it was painted."""

    plan: Plan
    before: np.ndarray | None
    """uint8 (height, width, 3); ``None`` for the first step."""
    after: np.ndarray
    """Alike."""


def rejections(judge: Judge, steps: Sequence[Painted]) -> list[str]:
    """Why each step may not be learnt from: the first check that it fails; "" where it may.

    Raises:
        OSError: There is no judge to be had any more.
    """
    requests = [
        Request(
            question=QUESTION,
            fields={"plan": {"instruction": step.plan.ins, "description": step.plan.des}},
            images=(step.after,) if step.before is None else (step.before, step.after),
        )
        for step in steps
    ]
    return [_rejection(verdict) for verdict in judge.ask(requests)]


def _rejection(verdict: Verdict) -> str:
    if verdict.status != "ok" or verdict.data is None:
        return f"not judged: {verdict.status}"
    if verdict.data.get("is_guarded"):
        return "speaks to the judge"
    failed = [check for check in CHECKS if _first_word(verdict.data.get(check)) == NO]
    if failed:  # also where the choice is yes all the same: a check that failed is not overruled
        return failed[0].removesuffix("_ok")
    return "" if verdict.data["choice"] == YES else "refused"


def _first_word(note: object) -> str:
    """Of what the judge says to a check: "no, …" is a failure, "none", "nothing …" and "not applicable" are not."""
    found = re.search(r"\w+", str(note or ""))
    return found.group().lower() if found else ""
