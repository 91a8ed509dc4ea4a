"""WISE: prompts from the user's files, strict readings, scores that survive a kill, tables."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from strokes.rewards.question import Request, Verdict
from strokes.rewards.wise import (
    CATEGORIES,
    PROTOCOLS,
    WISE_V1,
    WISE_VERIFIED,
    WiseItem,
    read_instructions,
    read_wise,
)
from strokes.rewards.wise_replies import read_v1_strict
from strokes.rewards.wise_scores import score_folder, score_images, score_of, write_image
from strokes.rewards.wise_totals import overall, summarise_wise, total

GOOD = "Consistency: 2\nRealism: 1\nAesthetic Quality: 0"


def item(prompt_id: int) -> WiseItem:
    category = WISE_V1.category(prompt_id)
    assert category is not None
    return WiseItem(prompt_id=prompt_id, prompt=f"p{prompt_id}", explanation="e", category=category, subcategory="s")


SIX = [item(prompt_id) for prompt_id in (1, 401, 568, 701, 801, 901)]


def marks(consistency: float, realism: float = 2, aesthetic: float = 2) -> dict[str, float]:
    return {"consistency": consistency, "realism": realism, "aesthetic_quality": aesthetic}


class Judge:
    """Answers by prompt: a reply, or the status of a failure; remembers what it was asked."""

    def __init__(self, answers: dict[str, str] | None = None) -> None:
        self.answers, self.asked = answers or {}, list[Request]()

    @property
    def prompts(self) -> list[str]:
        return [request.fields["prompt"] for request in self.asked]

    def ask(self, requests: Sequence[Request]) -> list[Verdict]:
        self.asked += requests
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Verdict:
        said = self.answers.get(request.fields["prompt"], GOOD)
        if said in ("transport", "refused", "budget", "timeout", "filtered"):
            return Verdict(status=said, error="because")
        data = request.question.read(said)
        return Verdict(status="ok" if data else "unparsable", data=data, raw=said)


def wise_file(path: Path, ids: Sequence[int], **changes) -> Path:
    records = [
        {"Prompt": f"p{k}", "Explanation": "e", "Category": "whatever", "Subcategory": "s", "prompt_id": k} | changes
        for k in ids
    ]
    path.write_text(json.dumps(records))
    return path


def test_prompts_are_read_from_files_and_folders_by_id(tmp_path):
    first, second = wise_file(tmp_path / "b.json", [701, 702]), wise_file(tmp_path / "a.json", [520, 1])
    assert [each.prompt_id for each in read_wise(first, second)] == [1, 520, 701, 702]
    (tmp_path / "notes.txt").write_text("no prompts")
    items = read_wise(tmp_path)
    assert [(each.prompt, each.category) for each in items[:2]] == [("p1", "CULTURE"), ("p520", "TIME")]
    assert [each.category for each in read_wise(tmp_path, protocol=WISE_VERIFIED)][1:3] == ["TIME", "BIOLOGY"]


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"Prompt": ""}, "Prompt"),
        ({"Explanation": None}, "Explanation"),
        ({"prompt_id": "1"}, "prompt_id"),
        ({"prompt_id": True}, "prompt_id"),
        ({"prompt_id": 1001}, "1001"),
    ],
)
def test_an_item_that_is_none_is_named_by_file_and_index(tmp_path, changes, named):
    path = wise_file(tmp_path / "a.json", [5], **changes)
    with pytest.raises(ValueError, match=r"a\.json\[0\]") as caught:
        read_wise(path)
    assert named in str(caught.value)


def test_files_that_are_not_wises_are_named(tmp_path):
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "torn.json").write_text("[{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("object.json", "torn.json", "absent.json", "deep.json"):
        with pytest.raises(ValueError, match=name):
            read_wise(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        read_wise(tmp_path / "empty")


def test_an_id_that_occurs_twice_is_named_with_both_places(tmp_path):
    wise_file(tmp_path / "a.json", [1, 2]), wise_file(tmp_path / "a_rewrite.json", [2])
    with pytest.raises(ValueError, match=r"2 in .*a\.json\[1\] and .*a_rewrite\.json\[0\]"):
        read_wise(tmp_path)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_our_question_asks_for_the_form_that_its_readers_take(name):
    protocol = PROTOCOLS[name]
    for reader in ("official", "strict"):
        question = pickle.loads(pickle.dumps(protocol.question(reader)))
        form = question.instructions.rsplit("nothing else:\n", 1)[1]
        best = form.replace("<0, 1 or 2>", "2").replace("<0 or 1>", "1")
        assert protocol.wiscore(question.read(best)) == pytest.approx(1)
    with pytest.raises(ValueError, match="lenient"):
        protocol.question("lenient")


def test_instructions_come_from_a_file_too(tmp_path):
    path = tmp_path / "judge.json"
    path.write_text(json.dumps({"system": "S", "user": "see {prompt} ({explanation})"}))
    question = WISE_V1.question("strict", read_instructions(path))
    assert (question.instructions, question.template) == ("S", "see {prompt} ({explanation})")
    assert question.read is read_v1_strict and question.max_tokens == 2000
    for wrong in ({"system": "S"}, {"system": "S", "user": "{prompt}"}, {"system": "S", "user": 3}, []):
        path.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=r"judge\.json"):
            read_instructions(path)
    path.write_text(json.dumps({"system": "S", "user": "{prompt} {explanation} {score}"}))
    with pytest.raises(ValueError, match="score"):
        read_instructions(path)


def test_gating_leaves_nothing_to_a_fine_picture_of_something_else():
    assert WISE_V1.wiscore(marks(0)) == pytest.approx(0.3) and WISE_V1.gated(marks(0)) == 0
    assert WISE_V1.wiscore(marks(2)) == pytest.approx(1) == WISE_V1.gated(marks(2))
    assert WISE_V1.gated(marks(1)) == pytest.approx(0.5)
    assert WISE_V1.gated(marks(2, 0, 0)) == pytest.approx(WISE_V1.wiscore(marks(2, 0, 0)))
    assert WISE_VERIFIED.gated({"score": 1}) == WISE_VERIFIED.wiscore({"score": 1}) == 1


def image(folder: Path, prompt_id: int) -> None:
    write_image(folder, prompt_id, np.full((16, 16, 3), prompt_id % 256, np.uint8))


def test_the_judge_sees_each_prompt_with_its_own_image(tmp_path):
    for each in SIX:
        image(tmp_path / "images", each.prompt_id)
    assert {path.name for path in (tmp_path / "images").iterdir()} == {f"{each.prompt_id}.png" for each in SIX}
    judge = Judge()
    scores = score_folder(judge, WISE_V1, SIX, tmp_path / "images", tmp_path / "scores.jsonl", batch=4)
    assert [score.prompt_id for score in scores] == [each.prompt_id for each in SIX]
    for request, each in zip(judge.asked, SIX, strict=True):
        assert request.fields == {"prompt": each.prompt, "explanation": "e"}
        assert request.images[0][0, 0, 0] == each.prompt_id % 256


def test_a_run_that_was_cut_off_goes_on_and_comes_to_the_same(tmp_path):
    folder, path = tmp_path / "images", tmp_path / "scores.jsonl"
    for each in SIX:
        image(folder, each.prompt_id)
    whole = score_folder(Judge({"p401": GOOD.replace("2", "0")}), WISE_V1, SIX, folder, path)
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        judge = Judge({"p401": GOOD.replace("2", "0")})
        again = score_folder(judge, WISE_V1, SIX, folder, path)
        assert [(s.prompt_id, s.marks) for s in again] == [(s.prompt_id, s.marks) for s in whole]
        assert path.read_bytes() == content
        assert len(judge.asked) == 6 - content[:cut].count(b"}")
    judge = Judge()
    score_folder(judge, WISE_V1, SIX, folder, path)
    assert not judge.asked


def test_failures_are_listed_with_their_reason_and_asked_about_the_next_time(tmp_path):
    folder, path = tmp_path / "images", tmp_path / "scores.jsonl"
    for each in SIX[:-1]:
        image(folder, each.prompt_id)
    judge = Judge({"p1": "no idea", "p401": "transport", "p568": "budget"})
    scores = score_folder(judge, WISE_V1, SIX, folder, path)
    assert [score.marks is None for score in scores] == [True, True, True, False, False, True]
    assert [judge.prompts.count(p) for p in ("p1", "p401", "p568", "p701", "p901")] == [3, 3, 1, 1, 0]
    summary = summarise_wise(WISE_V1, SIX, scores)
    reasons = list(summary.missing.values())
    assert list(summary.missing) == [1, 401, 568, 901]
    assert reasons[:3] == ["unparsable", "transport: because", "budget: because"] and "901.png" in reasons[3]
    assert set(summary.overall.values()) == {None}
    assert [row.wiscore for row in summary.rows].count(None) == 4
    assert "1, 401, 568, 901" in summary.to_markdown() and "0.000" not in summary.to_markdown()
    image(folder, 901)
    judge = Judge()
    assert all(score.marks for score in score_folder(judge, WISE_V1, SIX, folder, path))
    assert sorted(judge.prompts) == ["p1", "p401", "p568", "p901"]


def test_a_broken_image_is_named(tmp_path):
    image(tmp_path, 1)
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"1\.png"):
        score_folder(Judge(), WISE_V1, SIX[:1], tmp_path, tmp_path / "scores.jsonl")


def test_images_are_asked_about_at_least_once():
    with pytest.raises(ValueError, match="attempts to be at least 1, got 0"):
        score_images(Judge(), WISE_V1, SIX[:1], [np.zeros((16, 16, 3), np.uint8)], attempts=0)


def test_scores_files_are_counted_by_the_official_rules_too(tmp_path):
    path = tmp_path / "scores.jsonl"
    image(tmp_path, 1)
    score_folder(Judge(), WISE_V1, SIX[:1], tmp_path, path)
    file = total([path.read_text()], WISE_V1, "all").files[0]
    assert file is not None and file.present == {1} and file.values == (("CULTURE", pytest.approx(0.8)),)
    with pytest.raises(ValueError, match="history"):
        total([""], WISE_V1, "history")


@pytest.mark.parametrize(
    "row, weighted, unweighted",
    [
        ((0.76, 0.69, 0.75, 0.65, 0.75, 0.58), 0.717, 0.697),
        ((0.44, 0.55, 0.68, 0.44, 0.60, 0.39), 0.501, 0.517),
    ],
)
def test_both_overall_scores_of_published_rows(row, weighted, unweighted):
    """BAGEL with and without thinking; reported are 0.70 and 0.52."""
    means = dict(zip(CATEGORIES, row, strict=True))
    assert overall(means, WISE_V1) == pytest.approx(weighted, abs=5e-4)
    assert overall(means, WISE_V1, "bagel_unweighted") == pytest.approx(unweighted, abs=5e-4)
    assert overall({**means} | {"TIME": float("nan")}, WISE_V1) != overall(means, WISE_V1)
    assert overall({name: means[name] for name in CATEGORIES[1:]}, WISE_V1) is None
    with pytest.raises(ValueError, match="median"):
        overall(means, WISE_V1, "median")


def test_the_table_has_both_overall_scores_and_one_cluster_for_each_prompt():
    items = [*SIX, item(2)]
    scores = [score_of(WISE_V1, each, marks(2 if each.prompt_id == 1 else 1)) for each in items]
    scores += [score_of(WISE_V1, items[0], marks(0))]
    summary = summarise_wise(WISE_V1, items, scores)
    culture = summary.rows[0]
    assert (culture.category, culture.prompts, culture.images) == ("CULTURE", 2, 3)
    assert culture.wiscore is not None and culture.wiscore.mean == pytest.approx((1 + 0.65 + 0.3) / 3)
    assert culture.marks == pytest.approx(marks(1))
    assert summary.overall["official_weighted"] == pytest.approx(0.65)
    assert json.loads(json.dumps(summary.to_dict(), allow_nan=False))["rows"][0]["wiscore"]["mean"] > 0
    table = summary.to_markdown()
    assert "official_weighted 0.650" in table and "bagel_unweighted 0.650" in table and "Without" not in table


def test_one_prompt_without_a_score_leaves_no_overall_one_and_counts_nowhere():
    items = [*SIX, item(2)]
    scores = [score_of(WISE_V1, each, marks(1)) for each in SIX] + [score_of(WISE_V1, items[-1], None, error="late")]
    summary = summarise_wise(WISE_V1, items, scores)
    assert summary.missing == {2: "late"} and set(summary.overall.values()) == {None}
    assert summary.rows[0].wiscore is not None and summary.rows[0].wiscore.mean == pytest.approx(0.65)


def test_a_prompt_that_was_never_judged_is_missing():
    summary = summarise_wise(WISE_V1, SIX, [score_of(WISE_V1, each, marks(2)) for each in SIX[1:]])
    assert summary.missing == {1: "not judged"} and summary.overall["official_weighted"] is None


def test_images_and_items_have_to_be_as_many():
    with pytest.raises(ValueError):
        score_images(Judge(), WISE_V1, SIX, [np.zeros((16, 16, 3), np.uint8)])
