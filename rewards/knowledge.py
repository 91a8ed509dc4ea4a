"""The exact judge of the mini-world's knowledge benchmark: WISE's marks, from what is on the canvas.

Prompts and answers are ``envs/scenes/knowledge.py``'s, protocols, scores and totals are WISE's. The three marks:

* consistency: 2 for exactly what the prompt asks for and nothing besides; 1 if the soft score, the mean of the atomic
  checks less a tenth per thing too many, is at least a half; else 0. (Without that deduction a canvas with one of each
  shape would be half right whatever the prompt.)
* realism: by how well the canvas is what the renderer makes of the objects found in it, see ``guards.realism``.
* aesthetic quality: 2, less one if an object touches the border and one if something is none of the world's shapes; 0
  for a canvas without any object.

The binary protocol's score is 1 where consistency is 2.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ..envs.scenes.detect import detect
from ..envs.scenes.detection import UNKNOWN
from ..envs.scenes.guards import realism
from ..envs.scenes.knowledge import KnowledgeItem, item_of
from ..envs.scenes.verdicts import verdict
from .question import Request, Verdict
from .wise import WISE_V1, WISE_VERIFIED, WiseItem
from .wise_replies import CRITERIA

HALF = 0.5
"""Least soft score of consistency 1."""
FLAWLESS, RECOGNISABLE = 22.0, 17.5
"""Least PSNR of the re-render in dB for realism 2 and 1. Measured at 64 px: a blur of 2 px leaves 21.8, noise of
20 grey levels 24.8, JPEG 50 28.3; canvases of noise, or of one colour but the ground's, stay below 17.5."""


def marks_of(image: np.ndarray, item: KnowledgeItem) -> dict[str, int]:
    """The three marks of an image, each 0, 1 or 2.

    Args:
        image: uint8 (height, width, 3).
        item: What it was drawn for.
    """
    found = detect(image)
    known = [each for each in found if each.shape != UNKNOWN]
    said = verdict(found, item.meta)
    likeness = realism(image, found)
    height, width = image.shape[:2]
    boxes = [each.box for each in known]
    touching = any(x0 <= 0 or y0 <= 0 or x1 >= width or y1 >= height for x0, y0, x1, y1 in boxes)
    consistency = 2 if said.strict else int(said.soft >= HALF)
    aesthetic = 2 - touching - (len(known) < len(found)) if known else 0
    return dict(
        zip(CRITERIA, (consistency, (likeness >= RECOGNISABLE) + (likeness >= FLAWLESS), aesthetic), strict=True)
    )


def wise_items(items: Sequence[KnowledgeItem]) -> list[WiseItem]:
    """The items as WISE's: what a judge is told, without the answer."""
    return [
        WiseItem(
            prompt_id=item.prompt_id,
            prompt=item.prompt,
            explanation=item.explanation,
            category=item.category,
            subcategory=item.subcategory,
        )
        for item in items
    ]


class KnowledgeJudge:
    """A ``Judge`` that knows the answers; for questions of ``WISE_V1`` and ``WISE_VERIFIED`` on knowledge prompts."""

    def ask(self, requests: Sequence[Request]) -> list[Verdict]:
        """One verdict for each request; prompts of other benchmarks are refused."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Verdict:
        said = reply_to(request.question.name, request.fields, request.images[0])
        if said is None:
            return Verdict(
                status="refused",
                error=f"Expected a prompt of the mini-world's knowledge benchmark, got {request.fields!r}.",
            )
        assert request.question.read is not None, "WISE's questions are read, not chosen from"
        return Verdict(status="ok", data=request.question.read(said), raw=said)


def reply_to(protocol: str, fields: Mapping[str, object], image: np.ndarray) -> str | None:
    """What a judge that knows the answers says of an image, in the form that the protocol asks for.

    Args:
        protocol: "wise_v1" or "wise_verified".
        fields: Of the request; only "prompt" is read.
        image: uint8 (height, width, 3).

    Returns:
        ``None`` for a prompt that the benchmark does not have.
    """
    item = item_of(str(fields.get("prompt")))
    if item is None:
        return None
    marks = marks_of(image, item)
    if protocol == WISE_VERIFIED.name:
        return f"Score: {int(marks['consistency'] == 2)}"
    assert protocol == WISE_V1.name, protocol
    return "\n".join(f"{name.replace('_', ' ').title()}: {mark}" for name, mark in marks.items())
