"""Instruction-intermediate conflict: labels, words, loss, quotas; with the painter as planner and the shipped model."""

from collections import Counter

import numpy as np
import pytest

from strokes.agents.scripted import Habits, ScriptedPainter
from strokes.envs import Stage
from strokes.envs.markup import parse_inspection, parse_plan
from strokes.envs.scenes.changes import Thing, apply, plan_faults
from strokes.envs.scenes.language import parse, parse_edits, parse_report
from strokes.rewards.critics import Judgement, queries_of
from strokes.rewards.exact import ExactCritic
from strokes.sft.audit import audit
from strokes.sft.conflict import NUM, POSITIVES, Conflict
from strokes.sft.corrections import inspection_of, moved
from strokes.sft.quotas import quota
from strokes.sft.self_sampling import load_sampler


@pytest.fixture(scope="module")
def sampler():
    return load_sampler()


@pytest.fixture(scope="module")
def sampled(sampler):
    return Conflict(planner=sampler, num=10).make(0, 10)


@pytest.fixture(scope="module")
def symbolic():
    return Conflict(source="symbolic", num=40).make(0, 40)


def judged_plan(sample):
    """Index of the plan that is inspected."""
    first = next(k for k, entry in enumerate(sample.transcript.emissions) if entry.loss)
    return max(k for k, entry in enumerate(sample.transcript.emissions[:first]) if entry.stage is Stage.PLAN)


@pytest.mark.parametrize("source", ["sampled", "symbolic"])
def test_samples_are_what_the_exact_verifier_says(source, request):
    samples = request.getfixturevalue(source)
    found = audit(samples)
    assert not any(found.errors.values()), found
    assert Counter(s.label for s in samples) == dict(
        zip((True, False), quota(0, len(samples), POSITIVES, NUM), strict=True)
    )
    for sample in samples:
        (judgement,) = ExactCritic().judge([queries_of(sample.transcript)[judged_plan(sample)]])
        assert judgement.is_right is sample.label
        assert bool(sample.kinds) is not sample.label


@pytest.mark.parametrize("source", ["sampled", "symbolic"])
def test_only_what_is_said_of_the_plan_and_its_correction_bears_loss(source, request):
    for sample in request.getfixturevalue(source):
        learnt = [entry.stage for entry in sample.transcript.emissions if entry.loss]
        assert learnt == [Stage.INSPECT] if sample.label else [Stage.INSPECT, Stage.PLAN, Stage.SKETCH]
        at = judged_plan(sample)
        assert [e.stage for e in sample.transcript.emissions[at:]] == [Stage.PLAN, Stage.SKETCH, *learnt]


def test_the_correction_is_carried_out_by_the_new_plan(sampled):
    for sample in sampled:
        if not sample.label:
            inspection, plan = (sample.transcript.emissions[judged_plan(sample) + k].content for k in (2, 3))
            assert parse_inspection(inspection).refine == parse_plan(plan).ins


def test_right_plans_are_mostly_incomplete(symbolic):
    comments = [str(s.transcript.emissions[-1].content) for s in symbolic if s.label]
    reports = [parse_report(comment) for comment in comments]
    assert sum(not report.complete for report in reports) > len(reports) / 2 and any(r.complete for r in reports)


def test_announced_detours_are_no_conflicts():
    samples = Conflict(source="symbolic", num=40, detour_rate=1.0).make(0, 40)
    announced = [s for s in samples if "placeholder" in s.transcript.emissions[judged_plan(s)].content]
    assert announced and all(sample.label for sample in announced)
    assert any(sample.provenance["planned"] for sample in samples if not sample.label)  # earlier ones are no fault


def test_what_a_perfect_planner_does_not_get_wrong_is_made_up_by_symbolic_plans():
    maker = Conflict(planner=ScriptedPainter(Habits()), temperatures=(1.0,), tries=1, num=20)
    sources = Counter((s.label, s.provenance["source"]) for s in maker.make(0, 20))
    positives, negatives = quota(0, 20, POSITIVES, NUM)
    assert sources == {(True, "self-sampled"): positives, (False, "symbolic"): negatives}


def test_a_chunk_depends_on_the_settings_and_its_number_alone(sampler, sampled):
    again = Conflict(planner=sampler, num=10)
    other = Conflict(source="symbolic", num=40, chunk_size=20)
    assert [s.transcript for s in again.make(0, 10)] == [s.transcript for s in sampled]
    first, second = ([s.transcript for s in other.make(chunk, 20)] for chunk in (0, 1))
    assert second == [s.transcript for s in other.make(1, 20)] and first != second
    assert len({each.id for each in (*first, *second)}) == 40


@pytest.mark.parametrize("size", [500, 64])
def test_quotas_of_all_chunks_sum_to_the_papers_numbers(size):
    parts = [quota(start, min(size, NUM - start), POSITIVES, NUM) for start in range(0, NUM, size)]
    assert np.sum(parts, axis=0).tolist() == [6_905, 8_296]


class Silent:
    """A critic without verdicts."""

    def judge(self, queries):
        return [Judgement(p_yes=None) for _ in queries]


def test_without_verdicts_the_work_is_bounded_and_the_error_says_why():
    with pytest.raises(ValueError, match=r"got 0 and 0 \(\d+ not judged\)"):
        Conflict(source="symbolic", critic=Silent(), num=3).make(0, 3)


@pytest.mark.parametrize("settings", [{}, {"source": "drawn"}, {"planner": ScriptedPainter(), "temperatures": ()}])
def test_settings_that_make_no_sense_are_named(settings):
    with pytest.raises(ValueError, match=r"Expected .*, got "):
        Conflict(**settings)


def test_a_broken_relation_takes_one_move_and_nothing_is_taken_away():
    graph = parse("a red circle left of a blue square, and a star")
    before, circle = (Thing("square", "blue", 3),), Thing("circle", "red", 5)
    seen = apply(before, parse_edits("add a red circle at the right"))
    assert circle in seen and plan_faults(before, seen, graph)
    edit = moved(before, seen, graph, (), np.random.default_rng(0))
    assert edit.kind in ("move", "swap") and not plan_faults(before, apply(seen, [edit]), graph)


@pytest.mark.parametrize(
    ("judgement", "words"),
    [
        (Judgement(p_yes=0.9, explanation="all is there."), "the sketch follows the plan; all is there"),
        (Judgement(p_yes=0.1, explanation="a <ins>", correction="add b\n."), "a \u2039ins\u203a<refine>add b</refine>"),
        (Judgement(p_yes=0.1, explanation="a", correction=""), "None"),
        (Judgement(p_yes=None, explanation="a"), "None"),
    ],
)
def test_a_critics_words_become_an_inspection(judgement, words):
    assert str(inspection_of(judgement)) == words
