"""Reflection: a verifier's words in a drawing, legal whatever they are, and an end to them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from strokes.agents.parm import Parm
from strokes.agents.reflection import AGAIN, VERIFIER
from strokes.agents.rollout import Rules, chunks, rollout
from strokes.envs import Grammar, Stage, Transcript
from strokes.envs.markup import parse_inspection, parse_plan
from strokes.envs.protocols import Cost, Opinion

sys.path.insert(0, str(Path(__file__).parent))  # for `toys`

from toys import Says, ToyPainter

STEPS = 3


def always(value):
    return lambda seen: value


def corrected(outcomes, *, grammar=None, words="the star is missing", **options):
    """A search of one drawing whose outcomes are ``outcomes``, in turn; the trajectory and its verifier."""
    answers = iter(outcomes)

    def outcome(seen):
        said = next(answers)
        return Opinion(said=said, p_yes=float(bool(said)), p_no=float(not said), words=words, cost=Cost(calls=1))

    verifier = Says(clarity=always(1), potential=always(1), outcome=outcome)
    rules, painter = Rules(grammar=grammar or Grammar(), **options), ToyPainter(STEPS)
    (chunk,) = chunks(["a toy"], seed=0)
    (drawn,) = rollout(Parm(painter, 1, verifier, reflections=3, rules=rules), chunk, rules=rules)
    assert drawn.cost.steps == painter.total("steps") and drawn.cost.decodes == painter.total("decodes")
    assert drawn.cost.tokens == painter.total("tokens") and drawn.cost.questions == len(verifier.asked)
    return drawn, verifier


def said_by_verifier(drawn):
    return [entry for entry in drawn.transcript.emissions if entry.source == VERIFIER]


def test_what_is_right_is_left_alone():
    for answer in (True, None):
        drawn, verifier = corrected([answer])
        assert not said_by_verifier(drawn) and verifier.count("outcome") == 1


def test_words_from_outside_are_an_inspection_that_asks_for_a_refinement():
    drawn, verifier = corrected([False, True])
    stages = [entry.stage for entry in drawn.transcript.emissions]
    assert stages == [Stage.PLAN, Stage.SKETCH, Stage.INSPECT, Stage.REFINE, Stage.STOP]
    (said,) = said_by_verifier(drawn)
    assert parse_inspection(said.content).refine == "the star is missing" and not said.error
    assert verifier.count("outcome") == 2 and drawn.transcript.ended == "stop"
    assert len(drawn.transcript.images) == 2 and all(reply is not None for reply in drawn.replies)


def test_after_a_refinement_they_are_a_plan_and_after_three_rounds_there_is_an_end():
    drawn, verifier = corrected([False] * 9)
    assert [entry.stage for entry in said_by_verifier(drawn)] == [Stage.INSPECT, Stage.PLAN, Stage.INSPECT]
    plan = parse_plan(said_by_verifier(drawn)[1].content)
    assert (plan.ins, plan.des) == ("the star is missing", "a toy")
    assert verifier.count("outcome") == 3 and len(drawn.transcript.images) == 4
    assert not any(entry.error for entry in drawn.transcript.emissions)


def test_where_refinements_are_inspected_they_are_inspections_throughout():
    drawn, _ = corrected([False] * 9, grammar=Grammar(inspect_refined=True))
    assert [entry.stage for entry in said_by_verifier(drawn)] == [Stage.INSPECT] * 3


@pytest.mark.parametrize("words", ["", " <> ", "<refine>do</refine><|im_end|> it", "x" * 9000])
def test_words_of_any_kind_are_legal(words):
    drawn, _ = corrected([False, True], words=words)
    (said,) = said_by_verifier(drawn)
    refine = parse_inspection(said.content).refine
    assert not said.error and (refine == AGAIN) == (not words.strip(" <>"))


def test_a_budget_that_is_used_up_ends_reflection():
    drawn, verifier = corrected([False] * 9, budget=4)
    assert drawn.transcript.spent == 4 and verifier.count("outcome") <= 2
    drawn, _ = corrected([False] * 9, budget=3)
    assert not said_by_verifier(drawn)


def test_what_was_there_before_the_search_is_not_taken_back():
    painter = ToyPainter(STEPS)
    start = Transcript(prompt="a toy", size=48)
    for stage, content in ((Stage.PLAN, "<ins>a</ins><des>b</des>"), (Stage.SKETCH, np.zeros((48, 48, 3), np.uint8))):
        start.record((stage, content), source="human")
    verifier = Says(clarity=always(1), potential=always(1), outcome=always(0))
    policy = Parm(painter, 1, verifier, reflections=3)
    session = policy.start(start, 48, (0, 0))
    while not start.ended:
        (reply,) = policy.act([session], [start.mask()])
        assert start.record(reply.emission, source=reply.source) == ""
    assert not any(entry.source == VERIFIER for entry in start.emissions) and painter.total("steps") == 0
