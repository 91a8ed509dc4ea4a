"""The text format of the process: ``<ins>``, ``<des>`` and ``<refine>``, read and written here only.

A plan is ``<ins>what to do next</ins><des>how the scene then looks</des>``. An inspection is free
text, with ``<refine>what to correct</refine>`` at the end if and only if the image has to be
redrawn or the plan rewritten (arXiv 2604.04746, section 3).
"""

import re
from typing import NamedTuple

TAGS = ("ins", "des", "refine")
SPECIAL = re.compile(r"<(?=\|[a-z_]+\|>|/?(?:ins|des|refine)>)", re.IGNORECASE)
_PLAN = re.compile(r"<ins>(?P<ins>[^<>]+)</ins>\s*<des>(?P<des>[^<>]+)</des>\s*")
_INSPECTION = re.compile(r"(?P<comment>[^<>]*)(?:<refine>(?P<refine>[^<>]+)</refine>\s*)?")
_LOOKALIKE = "\u2039"  # a single angle quote: reads alike, tokenises as ordinary text


class Plan(NamedTuple):
    """What a PLAN says."""

    ins: str
    """What to draw or change next."""
    des: str
    """How the whole scene looks afterwards."""

    def __str__(self) -> str:
        return f"<ins>{self.ins}</ins><des>{self.des}</des>"


class Inspection(NamedTuple):
    """What an INSPECT says."""

    comment: str
    """Free text: what agrees and what does not."""
    refine: str | None = None
    """The correction asked for; ``None`` where the image stands."""

    def __str__(self) -> str:
        return self.comment if self.refine is None else f"{self.comment}<refine>{self.refine}</refine>"


def parse_plan(text: str) -> Plan:
    """Read a plan; ``ValueError`` says what is malformed."""
    match = _PLAN.fullmatch(text.strip())
    if not match or not match["ins"].strip() or not match["des"].strip():
        raise ValueError(f"Expected '<ins>…</ins><des>…</des>', got {text!r}.")
    return Plan(match["ins"].strip(), match["des"].strip())


def parse_inspection(text: str) -> Inspection:
    """Read an inspection; ``ValueError`` says what is malformed."""
    match = _INSPECTION.fullmatch(text.strip())
    if not match or not text.strip() or (match["refine"] is not None and not match["refine"].strip()):
        raise ValueError(f"Expected text with at most one closing '<refine>…</refine>', got {text!r}.")
    refine = match["refine"]
    return Inspection(match["comment"].strip(), None if refine is None else refine.strip())


def has_refine(text: str) -> bool:
    """Whether ``text`` is a well-formed inspection that asks for a refinement."""
    try:
        return parse_inspection(text).refine is not None
    except ValueError:
        return False


def is_plan(text: str) -> bool:
    """A text is meant as a PLAN if and only if it begins with ``<ins>``; else it is an INSPECT."""
    return text.lstrip().startswith("<ins>")


def neutralise(text: str) -> str:
    """Words from outside (prompts, critics) with every tag and special token made ordinary text.

    ``<|im_start|>`` or ``<ins>`` in a prompt must not act as structure: their opening angle
    bracket becomes a look-alike character, the rest stays readable.
    """
    return SPECIAL.sub(_LOOKALIKE, text)
