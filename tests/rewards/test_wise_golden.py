"""WISE against the official scripts' own answers (tests/golden/wise/README.md)."""

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strokes.rewards.judge_settings import JudgeSettings
from strokes.rewards.question import Request, Verdict
from strokes.rewards.wise import WISE_V1, WISE_VERIFIED, WiseItem, WiseProtocol
from strokes.rewards.wise_replies import parse_v1, parse_verified, read_v1, read_verified, without_thoughts
from strokes.rewards.wise_scores import score_images
from strokes.rewards.wise_totals import Total, total

GOLDEN = Path(os.environ.get("STROKES_GOLDEN") or Path(__file__).parents[1] / "golden") / "wise"
REPLIES = json.loads((GOLDEN / "wise_parse.json").read_text())
FILES = {
    protocol.name: json.loads((GOLDEN / f"wise_calc_{name}.json").read_text())
    for name, protocol in (("legacy", WISE_V1), ("verified", WISE_VERIFIED))
}
TOLERANCE = 1e-9
"""Of the README."""


def _numbered(cases: Sequence[Any]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[str(k) for k in range(len(cases))])


def _scenarios() -> list[Any]:
    protocols = (WISE_V1, WISE_VERIFIED)
    return [
        pytest.param(protocol, case, id=f"{protocol.name}-{k}")
        for protocol in protocols
        for k, case in enumerate(FILES[protocol.name]["scenarios"])
    ]


class Scripted:
    """A judge that sends given replies one after the other; "<<EXC>>" is a request that failed."""

    def __init__(self, replies: Sequence[str]) -> None:
        self.replies, self.calls = list(replies), 0

    def ask(self, requests: Sequence[Request]) -> list[Verdict]:
        (request,) = requests
        reply = self.replies[self.calls]
        self.calls += 1
        if reply == "<<EXC>>":
            return [Verdict(status="transport", error="out of reach")]
        assert request.question.read is not None
        data = request.question.read(reply)
        return [Verdict(status="unparsable" if data is None else "ok", data=data, raw=reply)]


@_numbered(REPLIES["legacy_parse"])
def test_three_marks_are_read_as_officially(case):
    assert parse_v1(case["text"]) == case["scores"]
    assert (read_v1(case["text"]) is not None) == case["accepted"]


@_numbered(REPLIES["verified_parse"])
def test_binary_scores_are_read_as_officially(case):
    assert parse_verified(case["text"]) == case["scores_raw"]
    assert without_thoughts(case["text"]) == case["cleaned"]
    assert parse_verified(case["cleaned"]) == case["scores_after_cleaning"]
    assert (read_verified(case["text"]) or {}) == case["scores_after_cleaning"]


@pytest.mark.parametrize("protocol", [WISE_V1, WISE_VERIFIED], ids=lambda protocol: protocol.name)
def test_images_are_asked_about_as_often_as_officially(protocol: WiseProtocol):
    for case in REPLIES["legacy_retry" if protocol is WISE_V1 else "verified_retry"]:
        judge, expected = Scripted(case["replies"]), case["score_record"]
        known = expected or {"prompt_id": 1, "Subcategory": "S"}
        item = WiseItem(
            prompt_id=known["prompt_id"], prompt="p", explanation="e", category="CULTURE",
            subcategory=known["Subcategory"],
        )  # fmt: skip
        (score,) = score_images(judge, protocol, [item], [np.zeros((16, 16, 3), np.uint8)])
        assert judge.calls == score.attempts == case["calls"], case
        assert (score.to_record() if score.marks is not None else None) == expected, case
        assert bool(score.error) == (case["status"] != "ok"), case


def test_the_binary_protocol_s_request_is_the_official_one():
    """Of a judge behind ``vllm serve``: the protocol's length of replies, and the rest as the configuration has it."""
    yaml = pytest.importorskip("yaml")
    folder = Path(__file__).parents[2] / "configs" / "judge"
    values = {
        k: v for name in ("openai", "vllm") for k, v in yaml.safe_load((folder / f"{name}.yaml").read_text()).items()
    }
    settings = JudgeSettings.read({name: value for name, value in values.items() if name != "defaults"})
    sent = {
        settings.max_tokens_name: WISE_VERIFIED.question().max_tokens,
        "temperature": settings.temperature,
        **settings.extra_body,
    }
    assert sent == {name: value for name, value in REPLIES["verified_request"].items() if name != "model"}


def _same(mine: float | None, theirs: float | str | None) -> bool:
    if theirs == "NaN":
        return mine is not None and math.isnan(mine)
    if mine is None or theirs is None or isinstance(theirs, str):
        return mine is theirs
    return abs(mine - theirs) <= TOLERANCE


def _told(stdout: str, protocol: WiseProtocol, case: dict[str, Any]) -> list[tuple[int, ...]]:
    """The line numbers that the official script warned of, file by file."""
    parts = re.split(r"--- Processing file", stdout)[1:]
    assert len(parts) == len(case["files"])
    return [tuple(int(n) for n in re.findall(r"^Warning: .*?Line (\d+):", part, re.MULTILINE)) for part in parts]


@pytest.mark.parametrize("protocol, case", _scenarios())
def test_files_come_to_the_official_totals(protocol: WiseProtocol, case: dict[str, Any]):
    texts = [FILES[protocol.name]["file_texts"][k] for k in case["files"]]
    mine: Total = total(texts, protocol, case["category_arg"] or "all")
    expected = case["expected"]
    assert sum(file is not None for file in mine.files) == expected["n_files_ok"]
    assert len(mine.present) == expected["n_present_ids"]
    assert (mine.means is None) == (expected["category_scores"] is None)
    assert mine.counts == expected["category_counts"]
    assert set(mine.means or ()) == set(expected["category_scores"] or ())
    for category, value in (expected["category_scores"] or {}).items():
        assert mine.means is not None and _same(mine.means[category], value), category
    assert _same(mine.overall, expected["overall"])
    for file, lines in zip(mine.files, _told(expected["stdout"], protocol, case), strict=True):
        assert file is None or file.skipped == lines
