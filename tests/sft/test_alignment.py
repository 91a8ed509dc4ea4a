"""Image-instruction alignment: labels, words, loss, refinements; with the shipped model and spoiled sketches."""

from collections import Counter

import numpy as np
import pytest

from strokes.agents.bagel.tokenizer import Tokenizer
from strokes.agents.load import NANO
from strokes.agents.scripted import Habits, ScriptedPainter
from strokes.envs import Stage
from strokes.envs.markup import parse_inspection
from strokes.envs.scenes.changes import FAULTS, apply, compare, filled
from strokes.envs.scenes.detect import detect
from strokes.envs.scenes.language import parse_edits
from strokes.rewards.critics import queries_of
from strokes.rewards.exact import ExactCritic
from strokes.rewards.review import things_seen
from strokes.sft.alignment import Alignment
from strokes.sft.audit import audit
from strokes.sft.collator import ImageTable, from_transcript
from strokes.sft.quotas import quota
from strokes.sft.sample import Subset


@pytest.fixture(scope="module")
def sampled(sampler):
    return Alignment(sketcher=sampler, num=15).make(0, 15)


@pytest.fixture(scope="module")
def corrupted():
    return Alignment(source="corrupted", num=45).make(0, 45)


def after_plan(sample):
    """The sketch that is inspected, and what follows it."""
    entries = sample.transcript.emissions
    return entries[max(k for k, entry in enumerate(entries) if entry.stage is Stage.SKETCH) :]


def things(image):
    return things_seen(detect(image), image.shape[0])


@pytest.mark.parametrize("source", ["sampled", "corrupted"])
def test_samples_are_what_the_exact_verifier_says(source, request):
    samples = request.getfixturevalue(source)
    found = audit(samples)
    assert not any(found.errors.values()), found
    assert sum(bool(sample.label) for sample in samples) == quota(Subset.ALIGNMENT, 0, len(samples))[0]
    for sample in samples:
        queries = queries_of(sample.transcript)
        at = max(k for k, entry in enumerate(sample.transcript.emissions) if entry.stage is Stage.SKETCH)
        images = [k for k in queries if k >= at and queries[k].kind == "sketch"]
        verdicts = ExactCritic().judge([queries[k] for k in images])
        assert [verdict.is_right for verdict in verdicts] == ([True] if sample.label else [False, True])
        assert bool(sample.kinds) is not sample.label and set(sample.kinds) <= set(FAULTS)


@pytest.mark.parametrize("source", ["sampled", "corrupted"])
def test_the_inspection_the_refinement_and_what_follows_bear_loss(source, request):
    for sample in request.getfixturevalue(source):
        after = [(entry.stage, entry.loss) for entry in after_plan(sample)]
        refined = [] if sample.label else [(Stage.REFINE, True)]
        *stages, last = after
        assert stages == [(Stage.SKETCH, False), (Stage.INSPECT, True), *refined]
        assert last in ((Stage.PLAN, True), (Stage.STOP, True))
        assert sum(entry.loss for entry in sample.transcript.emissions) == 2 + len(refined)


def test_the_switch_after_a_refinement_or_a_right_sketch_is_learnt(corrupted):
    tokenizer = Tokenizer.load(NANO)
    learnt = set()
    for sample in corrupted:
        example = from_transcript(sample.transcript, tokenizer, ImageTable())
        last = sample.transcript.emissions[-1].stage
        segment = example[-1] if last is Stage.STOP else example[-2]
        assert segment.stage == ("inspect" if sample.label else "refine")
        ids = tokenizer.ids
        assert segment.switch == (ids.eos_token_id if last is Stage.STOP else ids.bos_token_id)
        learnt.add((sample.label, last))
    assert len(learnt) == 4  # both follow both


@pytest.mark.parametrize("source", ["sampled", "corrupted"])
def test_the_correction_leads_from_the_sketch_to_the_refinement(source, request):
    for sample in request.getfixturevalue(source):
        if not sample.label:
            sketch, inspection, refined, _ = (entry.content for entry in after_plan(sample))
            wanted = apply(things(sketch), parse_edits(parse_inspection(inspection).refine))
            shown = things(refined)
            assert not compare(shown, filled(wanted, shown))


def test_a_refinement_leaves_alone_what_was_right(corrupted):
    single = [after_plan(s) for s in corrupted if s.kinds in (("wrong",), ("missing",), ("extra",))]
    assert single
    for sketch, _, refined, _ in single:
        assert np.any(sketch.content != refined.content, axis=-1).mean() < 0.2  # a cell is a ninth


def test_every_kind_of_fault_is_there(corrupted):
    assert {kind for sample in corrupted for kind in sample.kinds} >= {"wrong", "missing", "extra", "misplaced"}


def test_what_a_perfect_sketcher_does_not_get_wrong_is_made_up_by_spoiled_sketches():
    maker = Alignment(sketcher=ScriptedPainter(Habits()), tries=1, num=12)
    assert Counter((s.label, s.provenance["source"]) for s in maker.make(0, 12)) == {
        (True, "corrupted"): 4,
        (False, "corrupted"): 8,
    }


def test_a_chunk_depends_on_the_settings_and_its_number_alone(sampler, sampled):
    again = Alignment(sketcher=sampler, num=15).make(0, 15)
    assert [s.transcript for s in again] == [s.transcript for s in sampled]
    other = Alignment(source="corrupted", num=30, chunk_size=15)
    first, second = ([s.transcript for s in other.make(chunk, 15)] for chunk in (0, 1))
    assert second == [s.transcript for s in other.make(1, 15)] and first != second


@pytest.mark.parametrize("split", ["train", "validation"])
def test_prompts_are_of_their_split(split):
    found = audit(Alignment(source="corrupted", num=10, split=split).make(0, 10))
    assert found.test_graphs == found.leaks == 0


def test_chunks_that_are_not_there_are_named():
    with pytest.raises(ValueError, match=r"Expected chunk in \[0, 1\)"):
        Alignment(source="corrupted", num=20).make(1, 5)


BAD = [{"num": 0}, {"chunk_size": 0}, {"tries": 0}, {"detour_rate": 2.0}, {"split": "test"}]


@pytest.mark.parametrize("settings", [{}, {"source": "genref"}, *({"source": "corrupted", **each} for each in BAD)])
def test_settings_that_make_no_sense_are_named(settings):
    with pytest.raises(ValueError, match=r"Expected .*, got "):
        Alignment(**settings)
