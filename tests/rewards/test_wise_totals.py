"""Scores files that nobody meant, counted as the official calculators count them: a text file line by line."""

import json

import pytest

from strokes.rewards.wise import WISE_V1, WISE_VERIFIED
from strokes.rewards.wise_totals import Tally, tally

MARKS = {"consistency": 1, "realism": 2, "aesthetic_quality": 2}


@pytest.mark.parametrize("line", ["[]", "[" * 100_000, '{"prompt_id": ' + "1" * 5000 + "}"])
def test_a_line_at_which_the_official_script_stops_leaves_nothing_of_its_file(line):
    assert tally(json.dumps({"prompt_id": 1, **MARKS}) + f"\n{line}\n", WISE_V1) is None


def test_a_number_beyond_all_floats_leaves_nothing_of_its_file():
    for prompt_id in (1, 2000):
        assert tally(json.dumps({"prompt_id": prompt_id, **MARKS, "consistency": 10**400}), WISE_V1) is None
    counted = tally(json.dumps({"prompt_id": 1, "score": 10**400}), WISE_VERIFIED)
    assert counted is not None and counted.skipped == (1,), "the binary script refuses it before it reckons"


def test_lines_end_where_text_files_end_them():
    one, two = (json.dumps({"prompt_id": k, **MARKS}) for k in (1, 2))
    for text in (f"{one}\r\n{two}\r\n", f"{one}\r{two}", f"{one}\n{two}\n"):
        counted = tally(text, WISE_V1)
        assert counted is not None and counted.present == {1, 2} and counted.skipped == ()
    counted = tally(f"{one}\u2028{two}\n\n", WISE_V1)
    assert counted is not None and counted.skipped == (1, 2)
    assert tally("", WISE_V1) == Tally(values=(), present=frozenset(), skipped=())
