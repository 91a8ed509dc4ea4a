"""Strict readings of WISE's replies: nothing out of range, said twice or missing."""

import pytest

from strokes.rewards.wise_replies import CRITERIA, parse_v1, parse_verified, read_v1_strict, read_verified_strict

GOOD = "Consistency: 2\nRealism: 1\nAesthetic Quality: 0"
MARKS = dict(zip(CRITERIA, (2, 1, 0), strict=True))


@pytest.mark.parametrize(
    "text, expected",
    [
        (GOOD, MARKS),
        ("**Consistency:** 2\n- Realism: **1**\nAESTHETIC QUALITY\uff1a 0.", MARKS),
        ("<think>Consistency: 0</think>\n" + GOOD, MARKS),
        ("The consistency is fine.\n" + GOOD, MARKS),
        (GOOD + "\nRealism: 1", None),
        (GOOD.replace("Consistency", "Inconsistency"), None),
        (GOOD.replace("2", "3"), None),
        (GOOD.replace("2", "2.5"), None),
        (GOOD.replace("2", "1/2"), None),
        (GOOD.replace("2", "-2"), None),
        (GOOD.replace("2", "\u0662"), None),
        (GOOD.replace("Realism: 1", ""), None),
        ("2\n1\n0", None),
        ("<think>\n" + GOOD, None),
        ("", None),
    ],
)
def test_three_marks_read_strictly(text, expected):
    assert read_v1_strict(text) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Score: 1", {"score": 1}),
        ("<think>Score: 0</think>Score: 1", {"score": 1}),
        ("Score: 0.9", None),
        ("Score: 1\nScore: 1", None),
        ("Underscore 1", None),
        ("1", None),
    ],
)
def test_a_score_read_strictly(text, expected):
    assert read_verified_strict(text) == expected


@pytest.mark.parametrize("end", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_bare_marks_stand_on_lines_that_end_with_a_newline(end):
    """What an ``^…$`` of a multi-line pattern takes for a line, not what ``str.splitlines`` does."""
    assert parse_v1(end.join("210")) == {}
    assert parse_v1(f"{end}\n".join("210")) == {name: float(mark) for name, mark in zip(CRITERIA, "210", strict=True)}
    assert parse_verified(f"1{end}2") == {}
    assert parse_verified(f"1{end}\n2") == {"score": 1}
