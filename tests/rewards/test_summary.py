"""Tables of an evaluation, by hand."""

import json

import numpy as np
import pytest

from strokes.rewards import Result, compare, summarise
from strokes.rewards.interval import intervals


def result(task="colors", prompt="p", seed=0, strict=1.0, **more) -> Result:
    return Result(
        **{
            "task": task,
            "prompt_id": prompt,
            "seed": seed,
            "official": strict,
            "strict": strict,
            "soft": strict,
            **more,
        }
    )


def test_means_are_over_drawings_and_the_overall_mean_is_over_tasks():
    results = [result("colors", f"c{k}", strict=1.0) for k in range(8)] + [result("position", "p", strict=0.0)]
    summary = summarise(results)
    rows = {row.task: row for row in summary.rows}
    assert list(rows) == ["colors", "position", "overall"]
    assert (rows["colors"].strict.mean, rows["position"].strict.mean, rows["overall"].strict.mean) == (1, 0, 0.5)
    assert (rows["overall"].prompts, rows["overall"].drawings) == (9, 9)


def test_official_strict_and_soft_are_kept_apart():
    (row, _) = summarise([result(official=1.0, strict=0.0, soft=0.9), result(prompt="q", official=1.0, soft=0.7)]).rows
    assert (row.official.mean, row.strict.mean, row.soft.mean) == (1, 0.5, pytest.approx(0.8))


def test_what_was_not_judged_is_in_no_mean():
    results = [result(strict=1.0, images=2, steps=20), result(prompt="q", strict=None, images=4, steps=60)]
    (row, overall) = summarise(results).rows
    assert (row.strict.mean, row.unjudged, overall.unjudged) == (1, 1, 1)
    assert (row.images, row.steps) == (3, 40)
    only = summarise([result(strict=None)])
    assert only.rows[0].strict is None and only.rows[1].strict is None
    assert "not judged" in only.to_markdown()


def test_drawings_of_one_prompt_are_one_cluster():
    rng = np.random.default_rng(0)
    truth = (rng.random(40) < 0.5).astype(float)
    alone = [result(prompt=f"p{k}", strict=v) for k, v in enumerate(truth)]
    many = [result(prompt=f"p{k}", seed=s, strict=v) for k, v in enumerate(truth) for s in range(16)]
    one, all_alike = summarise(alone).rows[0].strict, summarise(many).rows[0].strict
    assert one.mean == all_alike.mean
    assert all_alike.high - all_alike.low == pytest.approx(one.high - one.low)  # more copies tell nothing new
    # the normal approximation for 40 independent prompts
    half = 1.96 * np.sqrt(one.mean * (1 - one.mean) / 40)
    assert one.high - one.low == pytest.approx(2 * half, rel=0.15)


def test_clusters_weigh_by_their_drawings():
    pairs = {"t": [("a", 1.0), ("a", 1.0), ("a", 1.0), ("b", 0.0)]}
    assert intervals(pairs)["t"][:3] == (0.75, 0.0, 1.0)


def test_intervals_are_seeded_and_cover_the_truth():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(60):
        pairs = {"t": [(str(k), float(v)) for k, v in enumerate(rng.random(50) < 0.7)]}
        interval = intervals(pairs, resamples=400, seed=trial)["t"]
        assert interval == intervals(pairs, resamples=400, seed=trial)["t"]
        covered += interval.low <= 0.7 <= interval.high
    assert covered >= 51  # 95 % of 60 is 57


def test_a_single_prompt_has_no_interval():
    (row, overall) = summarise([result(seed=k, strict=float(k % 2)) for k in range(10)]).rows
    assert row.strict == overall.strict == (0.5, None, None) and str(row.strict) == "0.500"


def test_inspections_have_precision_and_recall():
    said_fault = ((True, True), (True, True), (True, False), (False, True), (False, False))
    seen = summarise([result(inspections=said_fault[:2]), result(prompt="q", inspections=said_fault[2:])]).inspections
    assert (seen.judged, seen.faults, seen.precision, seen.recall) == (5, 3, 2 / 3, 2 / 3)
    none = summarise([result(inspections=((False, False),))]).inspections
    assert (none.precision, none.recall) == (None, None)


def test_refinements_help_hurt_or_do_nothing():
    done = summarise([result(refinements=(0.5, -0.25, 0.0)), result(prompt="q", refinements=(0.25,))]).refinements
    assert (done.judged, done.helped, done.hurt, done.unchanged, done.mean) == (4, 0.5, 0.25, 0.25, 0.125)
    assert summarise([result()]).refinements.helped is None


def test_differences_are_paired_by_prompt_and_seed():
    first = [result(prompt=f"p{k}", strict=1.0) for k in range(30)]
    second = [result(prompt=f"p{k}", strict=float(k % 3 != 0)) for k in range(30)]
    (row, overall) = compare(first, list(reversed(second))).rows
    assert row.pairs == row.prompts == 30
    assert row.difference.mean == overall.difference.mean == pytest.approx(1 / 3)
    assert 0 < row.difference.low < 1 / 3 < row.difference.high
    assert compare(second, first).rows[0].difference.mean == pytest.approx(-1 / 3)


def test_pairing_takes_out_what_both_share():
    hard = np.random.default_rng(0).random(60) < 0.5
    first = [result(prompt=f"p{k}", strict=float(not h)) for k, h in enumerate(hard)]
    same = compare(first, first).rows[0].difference
    assert same == (0, 0, 0)


def test_drawings_without_a_judged_partner_are_counted():
    first = [result(prompt="a"), result(prompt="b"), result(prompt="c", strict=None)]
    second = [result(prompt="a", strict=0.0), result(prompt="c"), result(prompt="d")]
    comparison = compare(first, second)
    assert (comparison.rows[0].pairs, comparison.unpaired) == (1, 4)
    with pytest.raises(ValueError, match="in common"):
        compare(first[1:2], second)
    with pytest.raises(ValueError, match="metric among"):
        compare(first, second, metric="best")


def test_doubles_and_nothing_at_all_are_refused():
    with pytest.raises(ValueError, match="at least one result"):
        summarise([])
    with pytest.raises(ValueError, match="got two of"):
        summarise([result(), result()])


def test_tables_are_markdown_and_json():
    results = [result(prompt=f"p{k}", strict=float(k > 2), images=2, steps=20, refinements=(0.5,)) for k in range(10)]
    summary = summarise(results)
    lines = summary.to_markdown().splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == 9
    assert lines[2].startswith("| colors | 10 | 10 | 0.700 [") and lines[2].endswith("| 2.00 | 20.0 |")
    assert "Refinements: 10 judged; helped 1.000" in lines[-1]
    plain = json.loads(json.dumps(summary.to_dict()))
    assert plain["rows"][0]["strict"]["mean"] == 0.7 and plain["refinements"]["helped"] == 1
    comparison = compare(results, results)
    assert comparison.to_markdown().splitlines()[2] == "| colors | 10 | 10 | 0.000 [0.000, 0.000] |"
    assert json.loads(json.dumps(comparison.to_dict()))["rows"][1]["difference"]["mean"] == 0
