"""GenEval against numbers of the benchmark's own scripts, in the folder ``STROKES_GOLDEN`` or ``tests/golden``."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from strokes.envs.scenes.clauses import broken
from strokes.envs.scenes.places import relative_position
from strokes.rewards.geneval import Found, Rule, flow_grpo_score, judge, keep, overlap
from strokes.rewards.geneval_crops import crops
from strokes.rewards.geneval_prompts import CLASSES
from strokes.rewards.geneval_results import read_results
from strokes.rewards.geneval_summary import official_summary, to_summary_results
from strokes.rewards.summary import summarise

GOLDEN = Path(os.environ.get("STROKES_GOLDEN") or Path(__file__).parents[1] / "golden") / "geneval"
CASES = json.loads((GOLDEN / "geneval_cases.json").read_text())
SUMMARIES = json.loads((GOLDEN / "geneval_summary.json").read_text())
FILES = {"full": "geneval_results.jsonl", "partial": "geneval_results_partial.jsonl"}


def rule_of(options):
    kinds = {"max_objects": int, "bgcolor": str, "crop": lambda text: text == "1"}
    return Rule(**{name: kinds.get(name, float)(text) for name, text in options.items()})


def detected(case):
    return {
        name: [Found(box=tuple(item["box"]), score=item["score"], color=item["color"]) for item in items]
        for name, items in case["detections"].items()
    }


def lines(reason):
    """Reasons, those that name two relations as sets of words: their order is that of a set."""
    return [frozenset(line.split()) if " and " in line else line for line in reason.split("\n")]


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["id"])
def test_a_case_is_judged_as_officially(case):
    expected, rule, seen, calls = case["expected"], rule_of(case["options"]), detected(case), []

    def colors(_, found):
        calls.append([item.color for item in found])
        return calls[-1]

    kept = keep(seen, case["metadata"], rule, CLASSES)
    judged = judge(kept, case["metadata"], rule)
    broken(case["metadata"], kept, colors, rule.position_threshold)

    assert {name: [seen[name].index(item) for item in found] for name, found in kept.items()} == expected["kept"]
    assert calls == expected["colour_calls"]
    assert judged.correct == expected["correct"]
    if expected["reason_has_unordered_set"]:
        assert lines(judged.reason) == lines(expected["reason"])
    else:
        assert judged.reason == expected["reason"]


@pytest.mark.parametrize("case", [c for c in CASES["cases"] if "reward_server" in c], ids=lambda case: case["id"])
def test_a_case_is_worth_what_flow_grpo_s_server_says(case):
    kept = keep(detected(case), case["metadata"], Rule(), CLASSES)
    told = flow_grpo_score(kept, case["metadata"], Rule())
    assert told.score == pytest.approx(case["reward_server"]["score"], abs=1e-6)
    assert told.strict == case["reward_server"]["strict_correct"]
    assert judge(kept, case["metadata"], Rule()).correct == case["reward_server"]["correct"]
    if "reason" in case["reward_server"]:
        assert lines(told.reason) == lines(case["reward_server"]["reason"])


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["id"])
def test_strict_and_soft_agree_and_soft_stays_in_bounds(case):
    rule = rule_of(case["options"])
    judged = judge(keep(detected(case), case["metadata"], rule, CLASSES), case["metadata"], rule)
    assert 0 <= judged.soft <= 1
    assert judged.strict == (judged.soft == 1)
    asked = {clause["class"]: clause["count"] for clause in case["metadata"].get("include", ())}
    forbidden = {clause["class"]: clause["count"] for clause in case["metadata"].get("exclude", ())}
    is_ordinary = len(asked) == len(case["metadata"].get("include", ())) and all(
        asked.get(name, 0) < count for name, count in forbidden.items()
    )
    if is_ordinary:
        assert judged.correct or not judged.strict


def test_overlaps_are_the_official_ones():
    for pair in CASES["iou"]:
        assert overlap(pair["a"], pair["b"]) == pytest.approx(pair["iou"], abs=1e-6)
        assert overlap(pair["a"], pair["b"]) == pytest.approx(pair["iou_float64_inputs"], abs=1e-6)


def test_relations_are_the_official_ones():
    for pair in CASES["relative_position"]:
        assert sorted(relative_position(pair["a"], pair["b"])) == sorted(pair["relations_a_to_b"])
        assert sorted(relative_position(pair["b"], pair["a"])) == sorted(pair["relations_b_to_a"])


def test_crops_are_the_official_ones():
    with safe_open(GOLDEN / "geneval_crops.safetensors", "numpy") as file:
        for case in json.loads(file.metadata()["cases"]):
            image, mask, box, crop = (file.get_tensor(f"{case['k']:02}.{n}") for n in ("image", "mask", "box", "crop"))
            item = Found(box=tuple(box.tolist()), score=1.0, mask=mask if case["mask_used"] else None)
            (shown,) = crops(image, [item], rule_of(case["options"]))
            assert np.array_equal(np.asarray(shown), crop), case


@pytest.mark.parametrize("name", FILES)
def test_a_results_file_is_read_and_written_as_it_was(name):
    path = GOLDEN / FILES[name]
    results = read_results(path)
    assert len(results) == SUMMARIES[name]["n_images"]
    assert "".join(result.to_line() for result in results) == path.read_text()


@pytest.mark.parametrize("name", FILES)
def test_a_summary_is_the_official_one(name):
    expected, summary = SUMMARIES[name], official_summary(read_results(GOLDEN / FILES[name]))
    assert (summary.images, summary.prompts) == (expected["n_images"], expected["n_prompts"])
    assert summary.image_accuracy == pytest.approx(expected["image_accuracy"], abs=1e-6)
    assert summary.prompt_accuracy == pytest.approx(expected["prompt_accuracy_any"], abs=1e-6)
    assert summary.overall == pytest.approx(expected["overall"], abs=1e-6)
    tasks = expected["per_task_in_printed_order"]
    assert [(task.tag, task.correct, task.images) for task in summary.tasks] == [
        (tag, task["n_correct"], task["n_images"]) for tag, task in tasks.items()
    ]
    assert [task.score for task in summary.tasks] == pytest.approx([task["score"] for task in tasks.values()], abs=1e-6)
    assert summary.to_text() == expected["stdout"]


@pytest.mark.parametrize("name", FILES)
def test_our_table_holds_the_official_numbers(name):
    rows = summarise(to_summary_results(read_results(GOLDEN / FILES[name])), resamples=200).rows
    means = {tag: task["score"] for tag, task in SUMMARIES[name]["per_task_in_printed_order"].items()}
    assert [row.task for row in rows] == [*means, "overall"]
    assert [row.official.mean for row in rows] == pytest.approx([*means.values(), SUMMARIES[name]["overall"]], abs=1e-6)
    assert rows[-1].prompts == SUMMARIES[name]["n_prompts"]
    assert all(row.strict is None and row.soft is None for row in rows), "the benchmark's script does not say"
