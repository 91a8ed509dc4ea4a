"""Prose and emissions."""

import copy
import pickle

import numpy as np
import pytest
from gymnasium import spaces

from strokes.envs import Emission, Emissions, Prose, Stage, Transcript


@pytest.fixture
def space():
    text, image = Prose(200), spaces.Box(0, 255, (16, 16, 3), np.uint8)
    return Emissions((text, image, text, image, text), seed=0)


def test_prose_is_any_string_of_bounded_length():
    prose = Prose(8, seed=0)
    assert all(text in prose for text in ("", "a b", "星 🎨", "a" * 8)) and "a" * 9 not in prose and 3 not in prose
    assert all(prose.sample() in prose and prose.sample().strip() for _ in range(50))
    assert prose == Prose(8) and prose != Prose(9) and repr(prose) == "Prose(8)"
    assert prose.from_jsonable(prose.to_jsonable(["a", "é"])) == ["a", "é"]
    with pytest.raises(ValueError, match="max_length"):
        Prose(0)


def test_an_emission_is_an_element_as_it_stands(space):
    assert Emission(Stage.PLAN, "words") in space and (1, np.zeros((16, 16, 3), np.uint8)) in space
    assert (
        Emission(Stage.SKETCH, "words") not in space
        and Emission(Stage.SKETCH, np.zeros((8, 8, 3), np.uint8)) not in space
    )


def test_samples_follow_the_mask(space):
    for stage in Stage:
        mask = np.eye(5, dtype=np.int8)[stage]
        assert {space.sample(mask).stage for _ in range(5)} == {stage}
        assert all(space.sample(mask) in space for _ in range(5))
        assert space.sample(probability=mask.astype(float)).stage is stage
    assert {space.sample().stage for _ in range(60)} == set(Stage)
    assert space.sample(np.zeros(5, np.int8)) == (Stage.STOP, "")


def test_masks_of_a_wrong_shape_are_refused(space):
    with pytest.raises(ValueError, match=r"shape \(5,\), got \(4,\)"):
        space.sample(np.ones(4, np.int8))
    with pytest.raises(ValueError, match="got both"):
        space.sample(np.ones(5), np.ones(5) / 5)
    with pytest.raises(ValueError, match="5 branches"):
        Emissions([Prose(3)])


def test_random_emissions_under_the_mask_are_never_illegal(space):
    transcript = Transcript(prompt="x", size=16)
    for _ in range(40):
        assert transcript.record(space.sample(transcript.mask()), max_chars=200) == ""
        if transcript.ended:
            transcript = Transcript(prompt="x", size=16)


def test_seeds_copies_and_pickles_agree(space):
    twins = [copy.deepcopy(space), pickle.loads(pickle.dumps(space))]
    expected = [space.sample() for _ in range(10)]
    for twin in twins:
        assert twin == space
        for (stage, content), (other_stage, other) in zip(expected, [twin.sample() for _ in range(10)], strict=True):
            assert stage == other_stage and np.array_equal(content, other)
