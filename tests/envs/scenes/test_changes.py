"""States of a canvas, edits of them, and what a plan gets wrong."""

import pytest

from strokes.envs.scenes.changes import Fault, Thing, apply, filled, plan_faults
from strokes.envs.scenes.language import parse, parse_edits

RED, BLUE, SQUARE = Thing("circle", "red", 0), Thing("circle", "blue", 0), Thing("square", "blue", 4)


@pytest.mark.parametrize(
    ("prompt", "before", "after", "dropped"),
    [
        ("two circles", (RED,), (BLUE,), []),  # any colour will do
        ("a circle and a square", (RED, SQUARE), (BLUE,), [Thing("square", "blue")]),
        ("two circles", (RED, Thing("circle", "pink", 2)), (BLUE,), [Thing("circle", "red")]),
        ("two circles", (RED,), (), [Thing("circle", "red")]),
        ("a red circle and a square", (RED,), (SQUARE,), [Thing("circle", "red")]),
        ("a red circle", (RED,), (Thing("circle", "red", 8),), []),  # it moves
        ("a red circle", (SQUARE,), (), []),  # nobody asked for it
    ],
)
def test_a_plan_drops_what_it_takes_away_without_another_as_good(prompt, before, after, dropped):
    assert plan_faults(before, after, parse(prompt)) == tuple(Fault("dropped", wanted=thing) for thing in dropped)


def test_a_placeholder_may_go_and_a_wrong_colour_is_unasked_rather_than_dropped():
    assert plan_faults((RED,), (), parse("a red circle"), [RED]) == ()
    assert plan_faults((RED,), (BLUE,), parse("a red circle")) == (Fault("unasked", BLUE),)


def test_edits_are_carried_out_one_after_the_other_in_reading_order():
    edits = parse_edits("add a red circle at the top left; remove the red circle")
    late = Thing("circle", "red", 8)
    assert apply((late,), edits) == apply(apply((late,), edits[:1]), edits[1:]) == (late,)
    with pytest.raises(ValueError, match="on the canvas"):
        apply((), edits[1:])


def test_what_is_left_open_is_met_by_any_and_the_rest_stays():
    assert filled([Thing("circle")], [SQUARE, RED]) == (RED,)
    assert filled([Thing("circle"), Thing("circle", "blue")], [BLUE, RED]) == (BLUE, RED)
    assert filled([Thing("circle", "pink"), Thing("star")], [RED]) == (Thing("circle", "pink"), Thing("star"))
