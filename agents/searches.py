"""From the settings of a search to the search."""

from collections.abc import Mapping
from typing import Any

from ..envs.protocols import Policy, Verifier
from .beam import Beam
from .command import check_choice, check_number
from .parm import Parm
from .rollout import ScoreFn
from .search import BestOfN

PARMS = ("parm", "parm-pruned", "parm-plus")
SEARCHES = ("best-of-n", *PARMS, "beam")
PAINTERS = ("one-shot", "strokes")


def painter_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the policy that draws for a search.

    Raises:
        ValueError: There is no such painter, or ``like`` is asked for with one whose drawings are not of one image, and
            nobody tells what they cost; ``unit`` without ``like``.
    """
    painter = settings["painter"]
    check_choice("policy.painter", painter, PAINTERS)
    like, unit = (settings.get(key) for key in ("like", "unit"))
    if like is not None and unit is None and painter != "one-shot":
        raise ValueError(
            f"Expected policy.unit, an evaluation of who draws, with policy.like and policy.painter={painter}, got none"
        )
    if unit is not None and like is None:
        raise ValueError(f"Expected policy.unit with policy.like alone, got {unit!r}.")
    return {**settings, "name": "one-shot" if painter == "one-shot" else "bagel-tiny"}


def search_of(
    settings: Mapping[str, Any], painter: Policy, steps: int, score_fn: ScoreFn | None, verifier: Verifier | None
) -> Policy:
    """The search that ``configs/policy/<name>.yaml`` describes.

    Args:
        settings: That file's content.
        painter: Draws.
        steps: Its sampling steps per image.
        score_fn: Judge of best-of-n.
        verifier: Of the others.

    Raises:
        ValueError: A value of the wrong type or out of its range; nobody who judges.
    """
    name = settings["name"]
    if name == "best-of-n":
        if score_fn is None or type(settings["n"]) is not int:
            raise ValueError(f"Expected a judge and policy.n, an integer, got {score_fn!r} and {settings['n']!r}.")
        return BestOfN(painter, settings["n"], score_fn)
    if verifier is None:
        raise ValueError(f"Expected a verifier for policy={name}, got none; strokes-evaluate has one.")
    if name == "beam":
        for key in ("width", "branch"):
            check_number(f"policy.{key}", settings[key], 1)
        return Beam(painter, verifier, width=settings["width"], branch=settings["branch"])
    check_number("policy.n", settings["n"], 1)
    check_number("policy.reflections", settings["reflections"], 0)
    return Parm(
        painter,
        settings["n"],
        verifier,
        rule=settings["rule"],
        is_sketch_seen=settings["sketches"],
        flow_steps=_flow_steps(settings["flow_steps"], steps),
        reflections=settings["reflections"],
    )


def _flow_steps(given: Any, steps: int) -> tuple[int, ...]:
    every = tuple(range(1, steps + 1))
    if given == "all":
        return every
    if not isinstance(given, list) or any(type(step) is not int or step not in every for step in given):
        raise ValueError(f"Expected policy.flow_steps to be all, or a list of steps from 1 to {steps}, got {given!r}.")
    return tuple(given)
