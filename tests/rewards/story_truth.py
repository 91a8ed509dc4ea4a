"""What a perfect storyteller and a perfect judge of painted steps say, in the mini-world's words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from strokes.envs.scenes.detect import detect
from strokes.envs.scenes.graph import INVERSE, Edge, Graph, Node
from strokes.envs.scenes.language import describe, parse
from strokes.envs.scenes.render import COLORS, SHAPES
from strokes.envs.scenes.tasks import verdict

SHOWS = "so that the picture shows "
"""After these words every instruction says what its picture shows."""


def narrate(fields: Mapping[str, Any], images: Sequence[np.ndarray]) -> str:
    """Plans that say what is to be said, whatever the words."""
    steps = [{"ins": f"add {s['adds']}, {SHOWS}{s['scene']}", "des": s["scene"]} for s in fields["steps"]]
    return f"Here they are:\n```json\n{json.dumps(steps)}\n```"


def rewrite(fields: Mapping[str, Any], images: Sequence[np.ndarray]) -> str:
    """A detour of the kind asked for, and its correction."""
    des = fields["step"]["des"]
    wrong = describe(_spoilt(parse(des), fields["before"], fields["kind"]))
    told = {
        "ins": f"as a placeholder, draw it otherwise, {SHOWS}{wrong}",
        "des": wrong,
        "correction": f"put it right, {SHOWS}{des}",
    }
    return json.dumps(told)


def story(fields: Mapping[str, Any], images: Sequence[np.ndarray]) -> dict[str, str]:
    """Whether plans say what their steps add, and end in the prompt."""
    steps = fields["steps"]
    is_true = all(
        same(step["plan"]["des"], step["scene"]) and step["plan"]["ins"].startswith(f"add {step['adds']},")
        for step in steps
    )
    return _choice(is_true and same(steps[-1]["plan"]["des"], fields["prompt"].removeprefix("a photo of ")))


def detour(fields: Mapping[str, Any], images: Sequence[np.ndarray]) -> dict[str, str]:
    """Whether a detour announces what it does, does something, and is put right."""
    written, step = fields["written"], fields["step"]
    return _choice(
        "placeholder" in written["ins"]
        and same(written["ins"].partition(SHOWS)[2], written["des"])
        and not same(written["des"], step["des"])
        and same(written["correction"].partition(SHOWS)[2], step["des"])
    )


def edit_filter(fields: Mapping[str, Any], images: Sequence[np.ndarray]) -> dict[str, str]:
    """Whether the last picture is what the plan describes."""
    found = verdict(detect(images[-1]), parse(fields["plan"]["description"]).to_meta())
    objects = "yes" if found.strict else f"No: {'; '.join(found.reasons)}."
    return {**_choice(found.strict), "objects_ok": objects, **dict.fromkeys(("relations_ok", "preserved_ok"), "yes")}


def same(one: str, other: str) -> bool:
    """Whether two descriptions ask for the same scene."""
    return parse(one).canonical() == parse(other).canonical()


def _choice(is_right: bool) -> dict[str, str]:
    return {"choice": "yes" if is_right else "no"}


def _spoilt(graph: Graph, before: str, kind: str) -> Graph:
    """The scene of a step with the placeholder of a detour in it."""
    known = {node.shape for node in parse(before).nodes} if before else set()
    new = [node for node in graph.nodes if node.shape not in known]
    unused = next(shape for shape in SHAPES if all(node.shape != shape for node in graph.nodes))
    if kind == "remove":
        return Graph((*graph.nodes, Node(len(graph.nodes), unused)), graph.edges)
    if kind == "swap":
        edge = next(each for each in graph.edges if graph.node(each.src) in new)
        turned = Edge(edge.src, INVERSE[edge.rel], edge.dst)
        return Graph(graph.nodes, tuple(turned if each == edge else each for each in graph.edges))
    old = next(node for node in new if node.color) if kind == "change" else new[-1]
    color = next(color for color in COLORS if color != old.color)
    fresh = replace(old, color=color) if kind == "change" else replace(old, shape=unused)
    return Graph(tuple(fresh if node == old else node for node in graph.nodes), graph.edges)
