"""MiniWorldDetector: GenEval's detector for the mini-world, whose classes are shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..envs.scenes.detect import detect
from ..envs.scenes.render import SHAPES
from ..envs.scenes.verdicts import THRESHOLD
from .geneval import Found, Objects, Rule, keep


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniWorldDetector:
    """The exact detector of the mini-world; colours come with the shapes.

    What is no shape is no class of it, so ``Judgement.strict`` forgives it, as it does any class that the prompt does
    not name: train on ``SceneReward``, which does not.
    """

    classes: tuple[str, ...] = tuple(SHAPES)
    rule: Rule = field(default_factory=lambda: Rule(threshold=THRESHOLD, counting_threshold=THRESHOLD))
    """The mini-world's one threshold for all tasks: its detector sees nothing twice."""

    def look(
        self, images: Sequence[np.ndarray], metadata: Sequence[Mapping[str, Any]], rule: Rule | None = None
    ) -> list[Objects]:
        """See ``Detector.look``."""
        rule = rule or self.rule
        return [keep(_seen(image), meta, rule, self.classes) for image, meta in zip(images, metadata, strict=True)]


def _seen(image: np.ndarray) -> dict[str, list[Found]]:
    """Shapes on a canvas. Of equal scores ``keep`` takes the later one first and ``detect`` gives the better one."""
    seen: dict[str, list[Found]] = {}
    for item in reversed(detect(image)):
        left, top, right, bottom = map(float, item.box)
        found = Found(box=(left, top, right, bottom), score=float(np.float32(item.score)), color=item.color)
        seen.setdefault(item.shape, []).append(found)
    return seen
