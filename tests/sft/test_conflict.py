"""Instruction-intermediate conflict: labels, words, loss, quotas; with the painter as planner and the shipped model."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from strokes.agents.scripted import Habits, ScriptedPainter
from strokes.envs import Emission, Stage
from strokes.envs.markup import Plan, parse_inspection, parse_plan
from strokes.envs.protocols import Reply
from strokes.envs.scenes.changes import Thing, apply, plan_faults
from strokes.envs.scenes.detect import detect
from strokes.envs.scenes.language import parse, parse_edits, parse_report
from strokes.rewards.critics import Judgement, queries_of
from strokes.rewards.exact import ExactCritic, order_of
from strokes.rewards.review import things_seen
from strokes.sft.audit import audit
from strokes.sft.conflict import NUM, Conflict
from strokes.sft.corrections import inspection_of, moved
from strokes.sft.quotas import quota
from strokes.sft.sample import Subset
from strokes.sft.scene_prompts import scene_prompts


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


def last_report(sample):
    """What is said in the end of a sketch."""
    *_, said = (entry.content for entry in sample.transcript.emissions if entry.stage is Stage.INSPECT)
    return parse_report(parse_inspection(said).comment)


@pytest.mark.parametrize("source", ["sampled", "symbolic"])
def test_samples_are_what_the_exact_verifier_says(source, request):
    samples = request.getfixturevalue(source)
    found = audit(samples)
    assert not any(found.errors.values()), found
    assert Counter(s.label for s in samples) == dict(
        zip((True, False), quota(Subset.CONFLICT, 0, len(samples)), strict=True)
    )
    for sample in samples:
        (judgement,) = ExactCritic().judge([queries_of(sample.transcript)[judged_plan(sample)]])
        assert judgement.is_right is sample.label
        assert bool(sample.kinds) is not sample.label


@pytest.mark.parametrize("source", ["sampled", "symbolic"])
def test_only_what_is_said_of_the_plan_and_its_correction_bears_loss(source, request):
    for sample in request.getfixturevalue(source):
        learnt = [entry.stage for entry in sample.transcript.emissions if entry.loss]
        goes_on = [Stage.STOP if last_report(sample).complete else Stage.PLAN]
        assert learnt == [Stage.INSPECT, *(goes_on if sample.label else [Stage.PLAN, Stage.SKETCH])]
        at = judged_plan(sample)
        assert [e.stage for e in sample.transcript.emissions[at:]] == [Stage.PLAN, Stage.SKETCH, *learnt]


def test_the_correction_is_carried_out_by_the_new_plan(sampled):
    for sample in sampled:
        if not sample.label:
            inspection, plan = (sample.transcript.emissions[judged_plan(sample) + k].content for k in (2, 3))
            assert parse_inspection(inspection).refine == parse_plan(plan).ins


def test_right_plans_are_mostly_incomplete(symbolic):
    reports = [last_report(sample) for sample in symbolic if sample.label]
    assert sum(not report.complete for report in reports) > len(reports) / 2 and any(r.complete for r in reports)


def test_announced_detours_are_no_conflicts():
    samples = Conflict(source="symbolic", num=40, detour_rate=1.0).make(0, 40)
    announced = [s for s in samples if "placeholder" in s.transcript.emissions[judged_plan(s)].content]
    assert announced and all(sample.label for sample in announced)
    assert all(sample.provenance["step"] in sample.provenance["planned"] for sample in announced)
    pending = [s for s in samples if s.provenance["step"] - 1 in s.provenance["planned"]]
    assert not pending  # what mends a detour is never wrong by rule


@pytest.mark.parametrize("plan_error_rate", [0.0, 0.1])
def test_what_a_good_planner_does_not_get_wrong_is_made_up_by_symbolic_plans_of_both_labels(plan_error_rate):
    planner = ScriptedPainter(Habits(plan_error_rate=plan_error_rate))
    samples = Conflict(planner=planner, temperatures=(1.0,), tries=1, num=80).make(0, 80)
    sources = Counter((s.label, s.provenance["source"]) for s in samples)
    by_label = [sources[label, "symbolic"] / quota(Subset.CONFLICT, 0, 80)[not label] for label in (True, False)]
    assert by_label == [1.0, 1.0] if not plan_error_rate else 0.5 < by_label[0] < 1.0
    assert abs(by_label[0] - by_label[1]) < 0.05


def test_by_rule_a_prompts_number_does_not_give_the_label_away():
    samples = Conflict(source="symbolic", num=200).make(0, 200)
    numbers = {task.prompt: number for number, task in enumerate(scene_prompts(Conflict.offset, 200))}
    odd = Counter((numbers[sample.transcript.prompt] % 2, sample.label) for sample in samples)
    for label in (True, False):
        assert 0.35 < odd[1, label] / (odd[0, label] + odd[1, label]) < 0.65


def test_a_chunk_depends_on_the_settings_and_its_number_alone(sampler, sampled):
    again = Conflict(planner=sampler, num=10)
    other = Conflict(source="symbolic", num=40, chunk_size=20)
    assert [s.transcript for s in again.make(0, 10)] == [s.transcript for s in sampled]
    first, second = ([s.transcript for s in other.make(chunk, 20)] for chunk in (0, 1))
    assert second == [s.transcript for s in other.make(1, 20)] and first != second
    assert len({each.id for each in (*first, *second)}) == 40


@pytest.mark.parametrize("size", [500, 64])
def test_quotas_of_all_chunks_sum_to_the_papers_numbers(size):
    parts = [quota(Subset.CONFLICT, start, min(size, NUM - start)) for start in range(0, NUM, size)]
    assert np.sum(parts, axis=0).tolist() == [6_905, 8_296]


class Silent:
    """A critic without verdicts."""

    def judge(self, queries):
        return [Judgement(p_yes=None) for _ in queries]


def test_without_verdicts_the_work_is_bounded_and_the_error_says_why():
    with pytest.raises(ValueError, match=r"got 0 and 0 \(\d+ after a detour, \d+ not judged\)"):
        Conflict(source="symbolic", critic=Silent(), num=3).make(0, 3)


def test_plans_that_disagree_with_themselves_are_left_out(sampled):
    for sample in sampled:
        entries, at = sample.transcript.emissions, judged_plan(sample)
        canvas = replace(sample.transcript, emissions=entries[:at]).canvas
        before = () if canvas is None else things_seen(detect(canvas), sample.transcript.size)
        assert order_of(entries[at].content, before, sample.transcript.size).sound


class Muddled(ScriptedPainter):
    """Describes more than it says is to be drawn."""

    def act(self, sessions, masks):
        plans = [parse_plan(reply.emission.content) for reply in super().act(sessions, masks)]
        muddled = [Plan(plan.ins, f"{plan.des} and a pink moon") for plan in plans]
        return [Reply(emission=Emission(Stage.PLAN, str(plan))) for plan in muddled]


def test_nothing_is_kept_of_a_planner_that_always_disagrees_with_itself(capsys):
    samples = Conflict(planner=Muddled(), temperatures=(1.0,), tries=1, num=6).make(0, 6)
    assert len(samples) == 6 and {sample.provenance["source"] for sample in samples} == {"symbolic"}
    assert " disagrees with itself, " in capsys.readouterr().err


@pytest.mark.parametrize("place", [(1, 5), (-1, 5), (0, 0)])
def test_chunks_that_are_not_there_are_named(place):
    with pytest.raises(ValueError, match=r"Expected chunk in \[0, 1\)"):
        Conflict(source="symbolic", num=20).make(*place)


BAD = [
    *({}, {"source": "drawn"}, {"planner": ScriptedPainter(), "temperatures": ()}),
    *({"source": "symbolic", **each} for each in ({"num": 0}, {"chunk_size": 0}, {"tries": 0}, {"detour_rate": 2.0})),
]


@pytest.mark.parametrize("settings", BAD)
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
