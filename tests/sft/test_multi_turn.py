"""Multi-turn data of the mini-world: no mistakes, detours that are announced, the same every time."""

from dataclasses import replace

import numpy as np
import pytest

from strokes.envs.markup import parse_inspection
from strokes.envs.scenes.detect import detect
from strokes.envs.scenes.language import parse_report
from strokes.envs.scenes.tasks import verdict
from strokes.envs.stages import Stage
from strokes.envs.transcript import Ending
from strokes.rewards.critics import Query, queries_of
from strokes.rewards.exact import ExactCritic
from strokes.sft.multi_turn import MAX_IMAGES, ExactMultiTurn, rounds_of
from strokes.sft.sample import Subset
from strokes.sft.scene_prompts import scene_prompts

NUM = 240
ANNOUNCED = "as a placeholder, "


@pytest.fixture(scope="module")
def maker():
    return ExactMultiTurn(num=NUM, chunk_size=100)


@pytest.fixture(scope="module")
def samples(maker):
    return [sample for chunk in range(3) for sample in maker.make(chunk, 100)]


def plans(sample):
    return {k: query for k, query in queries_of(sample.transcript).items() if query.kind == "plan"}


def unannounced(query: Query) -> Query:
    """The question as somebody would put it who does not know what was announced."""
    earlier = tuple(plan.replace(ANNOUNCED, "") for plan in query.earlier)
    return replace(query, plan=query.plan.replace(ANNOUNCED, ""), earlier=earlier)


def test_chunks_are_slices_of_the_subset_and_the_last_one_is_short(maker, samples):
    assert len(samples) == NUM
    assert [s.transcript.prompt for s in samples] == [task.prompt for task in scene_prompts(0, NUM)]
    assert len({s.transcript.id for s in samples}) == NUM
    assert [s.transcript for s in maker.make(1, 7)] == [s.transcript for s in samples[100:107]]


def test_a_sample_depends_on_seed_and_number_alone(samples):
    again = ExactMultiTurn(num=NUM, chunk_size=60).make(2, 20)
    assert again == samples[120:140]
    other = ExactMultiTurn(num=NUM, seed=1, chunk_size=60).make(2, 20)
    assert [s.transcript.prompt for s in other] != [s.transcript.prompt for s in again]


def test_drawings_are_whole_right_and_wholly_learnt(samples):
    for sample in samples:
        transcript = sample.transcript
        stages = [entry.stage for entry in transcript.emissions]
        rounds = len(transcript.images)
        assert stages == [Stage.PLAN, Stage.SKETCH, Stage.INSPECT] * rounds + [Stage.STOP]
        assert 1 <= rounds <= MAX_IMAGES and transcript.ended is Ending.STOP
        assert all(entry.loss and not entry.error for entry in transcript.emissions)
        assert verdict(detect(transcript.canvas), transcript.meta).strict
        assert (sample.subset, sample.label, sample.split) == (Subset.MULTI_TURN, None, "train")


def test_no_inspection_finds_a_fault_and_the_last_one_alone_is_complete(samples):
    for sample in samples:
        said = [parse_inspection(str(e.content)) for e in sample.transcript.emissions if e.stage is Stage.INSPECT]
        assert not any(inspection.refine for inspection in said)
        reports = [parse_report(inspection.comment) for inspection in said]
        assert [report.complete for report in reports] == [False] * (len(reports) - 1) + [True]
        pending = [k for k, report in enumerate(reports) if report.pending]
        assert pending == sample.provenance["planned"]


def test_every_plan_is_true_for_a_judge_that_reads_what_is_announced(samples):
    queries = [query for sample in samples for query in queries_of(sample.transcript).values()]
    assert all(judgement.is_right for judgement in ExactCritic().judge(queries))


def test_a_judge_that_does_not_know_of_detours_takes_these_alone_for_conflicts(samples):
    """All but swaps of what stands in no relation, which contradict nothing."""
    detours = others = 0
    for sample in samples:
        queries = [unannounced(query) for query in plans(sample).values()]
        flagged = {k for k, each in enumerate(ExactCritic().judge(queries)) if not each.is_right}
        planned = set(sample.provenance["planned"])
        kinds = [{edit.kind for edit in edits} for edits in rounds_of(sample.transcript)]
        assert flagged <= planned
        assert {k for k in planned if "swap" not in kinds[k + 1]} <= flagged
        detours, others = detours + len(flagged), others + len(queries) - len(flagged)
    assert detours > NUM // 3 and others > NUM


def test_detours_are_of_all_kinds_and_give_the_images_of_the_paper(samples):
    kinds = {kind for sample in samples for kind in sample.kinds}
    assert kinds == {"add", "change", "replace", "remove", "swap"}
    assert all(len(s.kinds) > 1 for s in samples if s.provenance["planned"])
    mean = np.mean([len(sample.transcript.images) for sample in samples])
    assert mean == pytest.approx(3.51, abs=0.25)  # of the whole subset: see the slow test


def test_without_detours_the_same_prompts_are_drawn_by_additions_alone(samples):
    additive = ExactMultiTurn(num=NUM, detour_rate=0.0, chunk_size=100).make(0, 100)
    assert [s.transcript.prompt for s in additive] == [s.transcript.prompt for s in samples[:100]]
    assert {s.kinds for s in additive} == {("add",)}
    assert not any(s.provenance["planned"] for s in additive)
    assert sum(len(s.transcript.images) for s in additive) < sum(len(s.transcript.images) for s in samples[:100])


def test_validation_has_other_graphs_and_other_ids(samples):
    kept = ExactMultiTurn(num=20, split="validation", chunk_size=20).make(0, 20)
    assert {s.split for s in kept} == {"validation"}
    assert not {s.graph_hash for s in kept} & {s.graph_hash for s in samples}
    assert not {s.transcript.id for s in kept} & {s.transcript.id for s in samples}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"split": "heldout"}, "split among train, validation"),
        ({"num": 0}, "num to be an integer of at least 1"),
        ({"chunk_size": 0}, "chunk_size to be an integer of at least 1"),
        ({"detour_rate": 1.5}, "detour_rate in"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        ExactMultiTurn(**settings)


@pytest.mark.slow
def test_the_whole_subset_has_the_images_of_the_paper():
    maker = ExactMultiTurn()
    nums = [len(s.transcript.images) for chunk in range(-(-maker.num // 500)) for s in maker.make(chunk, 500)]
    assert len(nums) == 32_012 and max(nums) == 5
    assert np.mean(nums) == pytest.approx(3.51, abs=0.05)
