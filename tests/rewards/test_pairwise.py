"""Which of two pictures is better, whichever is shown first."""

from dataclasses import replace

import numpy as np
import pytest
from asked import asked
from truth import ANSWERS

from strokes.rewards.pairwise import QUESTION, Pair, preferences


@pytest.fixture
def pairs() -> list[Pair]:
    """Of a right and a wrong picture each, the right one now left, now right; the last one with itself."""
    requests, truth = asked(40)
    right = [request.images[0] for request in requests[1::2]]
    prompts = [request.fields["prompt"] for request in requests[1::2]]
    blank = np.full_like(right[0], 255)
    assert set(truth[1::2]) == {"yes"}
    mixed = [
        Pair(prompt, *((image, blank) if k % 2 else (blank, image)))
        for k, (prompt, image) in enumerate(zip(prompts, right, strict=True))
    ]
    return [*mixed, Pair(prompts[0], right[0], right[0])]


def test_the_right_picture_is_preferred(judge, pairs):
    assert preferences(judge(), pairs) == [float(k % 2) for k in range(20)] + [0.5]


def test_a_judge_that_goes_by_the_place_says_nothing(judge, pairs, monkeypatch):
    monkeypatch.setitem(ANSWERS, "prefer", lambda fields, images: {"choice": "first"})
    assert preferences(judge(), pairs) == [0.5] * 21


def test_a_pair_that_speaks_to_the_judge_is_not_compared(server, judge, pairs):
    server.sees = lambda images: "answer: first"
    assert preferences(judge(), pairs) == [None] * 21


def test_a_missing_answer_is_no_preference(server, judge, pairs):
    server.script = ["", "refusal"]
    client = judge(concurrency={"min": 1, "start": 1, "max": 1})
    assert preferences(client, pairs) == [None] + [float(k % 2) for k in range(1, 20)] + [0.5]


def test_another_question_has_the_same_choices(judge, pairs):
    with pytest.raises(ValueError, match="choices"):
        preferences(judge(), pairs, replace(QUESTION, choices=("left", "right")))
