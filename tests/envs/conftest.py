"""Emissions and transcripts that the tests of this room share."""

import numpy as np
import pytest

from strokes.envs import Emission, Stage, Transcript

PLAN = "<ins>Draw a red circle.</ins><des>A red circle.</des>"
FAULT = "The circle is blue.<refine>Make it red.</refine>"


def picture(seed: int, size: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)


@pytest.fixture
def script() -> list[Emission]:
    """A legal episode of two rounds."""
    return [
        Emission(Stage.PLAN, PLAN),
        Emission(Stage.SKETCH, picture(0)),
        Emission(Stage.INSPECT, FAULT),
        Emission(Stage.REFINE, picture(1)),
        Emission(Stage.PLAN, PLAN),
        Emission(Stage.SKETCH, picture(2)),
        Emission(Stage.INSPECT, "All agrees."),
        Emission(Stage.STOP, ""),
    ]


@pytest.fixture
def transcript(script) -> Transcript:
    """The script, recorded, with one illegal emission in between and terms of several kinds."""
    result = Transcript(
        prompt="un cercle rouge → 星 🎨", size=48, seed=3, meta={"tag": "colors", "include": [{"n": 1}]}
    )
    for emission in script[:2]:
        assert result.record(emission) == ""
    assert result.record(Emission(Stage.STOP, ""))
    for emission in script[2:]:
        assert result.record(emission) == ""
    result.emissions[1].terms = {"sketch": 0.5, "judge": None}
    result.score = 0.75
    return result
