"""WISE's scores files: what is one, what is refused, what a kill leaves of one."""

import contextlib
import json
import math
import struct
import zlib

import pytest

from strokes.rewards.wise import WISE_V1, WISE_VERIFIED, WiseItem
from strokes.rewards.wise_scores import ScoresFile, read_image, score_of

ITEMS = [
    WiseItem(prompt_id=prompt_id, prompt="p", explanation="e", category=category)
    for prompt_id, category in ((1, "CULTURE"), (401, "TIME"))
]


def marks(value):
    return {"consistency": value, "realism": 2, "aesthetic_quality": 2}


def test_lines_that_are_no_scores_are_named_by_number(tmp_path):
    path = tmp_path / "scores.jsonl"
    lines = ["[]", "{", json.dumps({"prompt_id": 1, "score": 1}), json.dumps({"prompt_id": True, **marks(1)})]
    for line in [*lines, "[" * 100_000]:
        path.write_text(json.dumps({"prompt_id": 401, **marks(1)}) + f"\n\n{line}\n")
        with pytest.raises(ValueError, match=r"scores\.jsonl:3"):
            ScoresFile(path, WISE_V1).read(ITEMS)


@pytest.mark.parametrize("mark", [9.9, 999, -0.1, 2.01, math.nan, math.inf, 10**400, True])
def test_marks_that_are_none_are_no_scores(tmp_path, mark):
    path = tmp_path / "scores.jsonl"
    for name in marks(1):
        path.write_text(json.dumps({"prompt_id": 1, **marks(1), name: mark}) + "\n")
        with pytest.raises(ValueError, match=r"scores\.jsonl:1"):
            ScoresFile(path, WISE_V1).read(ITEMS)


def test_a_binary_score_is_all_or_nothing(tmp_path):
    path = tmp_path / "scores.jsonl"
    for score, is_one in ((0, True), (1.0, True), (0.5, False), (2, False)):
        path.write_text(json.dumps({"prompt_id": 1, "score": score}) + "\n")
        with contextlib.nullcontext() if is_one else pytest.raises(ValueError, match=r"scores\.jsonl:1"):
            assert ScoresFile(path, WISE_VERIFIED).read(ITEMS)[0].wiscore == score


@pytest.mark.parametrize("tail", ["my notes", "[1, 2]", "12", '{"prompt_id": 1}', '{"prompt_id": 1, "score": 1}'])
def test_a_file_that_is_not_ours_is_named_and_left_as_it_was(tmp_path, tail):
    path = tmp_path / "scores.jsonl"
    for before in ("", json.dumps({"prompt_id": 401, **marks(1)}) + "\n"):
        path.write_text(before + tail)
        with pytest.raises(ValueError, match=rf"scores\.jsonl:{2 if before else 1}"):
            ScoresFile(path, WISE_V1).read(ITEMS)
        assert path.read_text() == before + tail


def test_a_last_line_without_its_end_is_a_score(tmp_path):
    path = tmp_path / "scores.jsonl"
    line = json.dumps({"prompt_id": 1, **marks(1)})
    path.write_text(line)
    file = ScoresFile(path, WISE_V1)
    assert [score.marks for score in file.read(ITEMS)] == [marks(1)]
    file.add([score_of(WISE_V1, ITEMS[1], marks(2))])
    assert path.read_text().startswith(f"{line}\n")
    assert [score.marks for score in file.read(ITEMS)] == [marks(1), marks(2)]


def test_of_two_lines_for_one_prompt_the_first_counts(tmp_path):
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(json.dumps({"prompt_id": 1, **marks(c)}) + "\n" for c in (2, 0)))
    (score,) = ScoresFile(path, WISE_V1).read(ITEMS)
    assert score.marks == marks(2)


def test_an_image_as_large_as_a_house_is_named(tmp_path):
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"\0"))
    framed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))
    with pytest.raises(ValueError, match=r"1\.png"):
        read_image(tmp_path / "1.png")
