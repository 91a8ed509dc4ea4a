"""Beam over stages: how many drawings are begun, continued and kept, and which."""

import sys
from pathlib import Path

import pytest

from strokes.agents.beam import Beam
from strokes.agents.rollout import Rules, chunks, rollout
from strokes.envs import Stage
from strokes.envs.protocols import Opinion
from strokes.envs.testing import PolicyConformance

sys.path.insert(0, str(Path(__file__).parent))  # for `toys`

from toys import Says, ToyPainter, mark

STEPS = 3


def search(verifier, *, rounds=3, num_canvases=1, rules=None, width=2, branch=2):
    painter = ToyPainter(STEPS, rounds=rounds)
    (chunk,) = chunks(["a toy"], seed=0, num_members=num_canvases)
    return rollout(Beam(painter, verifier, width=width, branch=branch, rules=rules), chunk, rules=rules), painter


def line(trajectory):
    """The members that drew each image."""
    return [mark(image).member for image in trajectory.transcript.images]


def likes(*members, outcome=None):
    """Promising is an image by that member, at each stage."""
    potential = lambda seen: 0.9 if members[seen.image] == seen.member else 0.1 * (seen.member == 0)  # noqa: E731
    return Says(potential=potential, outcome=outcome or potential)


def test_the_most_promising_are_continued():
    verifier = likes(2, 1, 3)
    (drawn,), painter = search(verifier)
    # Of four begun 2 is first, and 0 second; 0 and 1 continue the first, 2 and 3 the second, and so on.
    assert line(drawn) == [2, 0, 3] and line(search(likes(2, 1, 1))[0][0]) == [2, 1, 1]
    assert painter.total("steps") == 3 * 4 * STEPS == drawn.cost.steps
    assert (verifier.count("potential"), verifier.count("outcome")) == (12, 4)
    assert drawn.cost.questions == 16 and drawn.transcript.ended == "stop"


def test_every_stage_goes_to_the_next_image():
    verifier = likes(0, 0, 0)
    search(verifier)
    images = [seen.image for question, seen in verifier.asked if question == "potential"]
    assert images == sorted(images) and images.count(0) == images.count(1) == images.count(2) == 4


def test_a_finished_drawing_stays_until_better_ones_push_it_out():
    class EarlyStop(ToyPainter):
        """Member 0 stops after its first sketch."""

        def _stage(self, session, mask):
            stage = super()._stage(session, mask)
            is_early = len(session.transcript.images) == 1 and session.seed[-1] == 0
            return Stage.STOP if stage is Stage.PLAN and mask[Stage.STOP] and is_early else stage

    for outcome, images in ((0.95, 1), (0.5, 3)):
        painter = EarlyStop(STEPS, rounds=3)
        verifier = Says(potential=lambda seen: 0.8, outcome=lambda seen, p=outcome: p if seen.image == 0 else 0.9)
        (chunk,) = chunks(["a toy"], seed=0)
        (drawn,) = rollout(Beam(painter, verifier, width=2, branch=2), chunk)
        assert len(drawn.transcript.images) == images and drawn.cost.steps == painter.total("steps")


def test_canvases_are_searched_together_and_each_for_itself():
    verifier = Says(potential=lambda seen: (seen.member + 1) / 9, outcome=lambda seen: (seen.member + 1) / 9)
    together, _ = search(verifier, num_canvases=3)
    alone, _ = search(verifier)
    assert together[0].transcript.emissions == alone[0].transcript.emissions
    assert all(len(each.transcript.images) == 3 for each in together)


def test_one_beam_of_one_branch_is_a_drawing():
    (drawn,), painter = search(likes(0, 0, 0), width=1, branch=1)
    assert painter.total("steps") == 3 * STEPS == drawn.cost.steps and drawn.transcript.ended == "stop"


def test_of_equal_beams_the_first_are_kept_and_no_answer_is_worth_nothing():
    unsure = Opinion(said=None)
    (drawn,), _ = search(Says(potential=lambda seen: unsure, outcome=lambda seen: unsure))
    assert line(drawn) == [0, 0, 0]
    (drawn,), _ = search(Says(potential=lambda s: 0.1 if s.member == 1 else unsure, outcome=lambda s: unsure))
    assert line(drawn)[:2] == [1, 1]


def test_a_budget_that_is_used_up_finishes_a_drawing():
    (drawn,), painter = search(likes(0, 0, 0), rules=Rules(budget=5))
    assert drawn.transcript.ended == "budget" and drawn.transcript.spent == 5
    assert drawn.cost.steps == painter.total("steps")
    (drawn,), _ = search(likes(0, 0, 0), rules=Rules(budget=1))
    assert [entry.stage for entry in drawn.transcript.emissions] == [Stage.PLAN]


@pytest.mark.parametrize(("width", "branch"), [(0, 2), (2, 0)])
def test_a_search_of_nothing_is_refused(width, branch):
    with pytest.raises(ValueError, match="width and branch of at least 1"):
        Beam(ToyPainter(), likes(), width=width, branch=branch)


class TestBeamConformance(PolicyConformance):
    def make_policy(self):
        return Beam(ToyPainter(STEPS, rounds=2), likes(*[0] * 9))
