"""The audit finds nothing in exact data, and whatever is planted in them; Table 1 counts what is there."""

import copy
import json
from dataclasses import replace

import drawn
import numpy as np
import pytest

from strokes.envs.scenes.tasks import heldout, task_of
from strokes.envs.stages import Emission, Stage
from strokes.envs.transcript import Transcript
from strokes.sft.audit import NUM_FINDINGS, Audit, audit
from strokes.sft.multi_turn import ExactMultiTurn
from strokes.sft.sample import Sample, Subset
from strokes.sft.scene_prompts import data_split, scene_prompts
from strokes.sft.table1 import Tally, table1, tally

TASK = next(t for t in scene_prompts(0, 400) if t.tag == "color_attr")
FIRST, SECOND = ((node.color, node.shape) for node in TASK.graph.nodes)
OTHER = next(c for c in ("red", "blue", "green") if c not in (FIRST[0], SECOND[0]))


def draw(pair):
    """A canvas with a (colour, shape) at the left."""
    return drawn.draw((*pair, 3))


def name(pair, article="a"):
    article = "an" if article == "a" and pair[0] == "orange" else article
    return f"{article} {pair[0]} {pair[1]}"


def plan(color):
    thing = (color, FIRST[1])
    return f"<ins>add {name(thing)} at the left</ins><des>{name(thing)}</des>"


def sample(subset, label, *steps, **changes):
    """A critique; loss from the inspection on."""
    transcript = Transcript(prompt=TASK.prompt, size=48, id="one", meta=TASK.meta)
    learnt = False
    for stage, content in steps:
        learnt = learnt or stage is Stage.INSPECT
        assert not transcript.record(Emission(stage, content), loss=learnt)
    given = {"graph_hash": TASK.graph.canonical_hash()} | changes
    return Sample(subset=subset, transcript=transcript, label=label, **given)


FOLLOWS = f"the sketch follows the plan; still missing: {name(SECOND)}"
RIGHT = [(Stage.PLAN, plan(FIRST[0])), (Stage.SKETCH, draw(FIRST)), (Stage.INSPECT, FOLLOWS)]
WRONG = (OTHER, FIRST[1])
CHANGE = f"change {name(WRONG, 'the')} at the left to {FIRST[0]}"
CONFLICT = [
    (Stage.PLAN, plan(OTHER)),
    (Stage.SKETCH, draw(WRONG)),
    (Stage.INSPECT, f"the plan asks for {name(WRONG)} at the left, the prompt does not<refine>{CHANGE}</refine>"),
    (Stage.PLAN, f"<ins>{CHANGE}</ins><des>{name(FIRST)}</des>"),
    (Stage.SKETCH, draw(FIRST)),
]
FAULTY = [
    (Stage.PLAN, plan(FIRST[0])),
    (Stage.SKETCH, draw(WRONG)),
    (
        Stage.INSPECT,
        f"the sketch shows {name(WRONG)} at the left instead of {name(FIRST)}<refine>{CHANGE}</refine>",
    ),
    (Stage.REFINE, draw(FIRST)),
]


def changed(steps, k, content):
    return [*steps[:k], (steps[k][0], content), *steps[k + 1 :]]


def errors(one):
    return {kind: num for kind, num in audit([one]).errors.items() if num}


@pytest.fixture(scope="module")
def exact():
    return ExactMultiTurn(num=120, chunk_size=120).make(0, 120)


@pytest.fixture
def drawing(exact):
    """A drawing of several rounds with a planned detour that nothing else shares."""
    return copy.deepcopy(next(s for s in exact if s.provenance["planned"] and len(s.transcript.images) > 2))


def test_exact_drawings_are_clean(exact):
    found = audit(exact)
    assert found.is_clean and found.findings == () and (found.samples, found.unchecked) == (120, 0)
    assert found.states == sum(len(s.transcript.images) for s in exact)


def test_true_critiques_are_clean():
    found = audit(
        [
            sample(Subset.CONFLICT, True, *RIGHT),
            sample(Subset.CONFLICT, False, *CONFLICT),
            sample(Subset.ALIGNMENT, True, *RIGHT),
            sample(Subset.ALIGNMENT, False, *FAULTY),
        ]
    )
    assert found.is_clean, found.findings
    assert (found.labels, found.states, found.right_incomplete) == (4, 6, 1)


@pytest.mark.parametrize(
    ("subset", "label", "steps"),
    [
        (Subset.CONFLICT, False, RIGHT),
        (Subset.ALIGNMENT, False, RIGHT),
        (Subset.CONFLICT, True, changed(CONFLICT, 2, FOLLOWS)[:3]),
        (Subset.ALIGNMENT, True, changed(FAULTY, 2, FOLLOWS)[:3]),
        (Subset.CONFLICT, None, RIGHT),
        (Subset.ALIGNMENT, True, RIGHT[:2]),
    ],
)
def test_wrong_labels_are_found(subset, label, steps):
    assert errors(sample(subset, label, *steps))["wrong_labels"] == 1


def test_a_mistake_in_a_sketch_is_no_conflict_of_its_plan():
    assert errors(sample(Subset.CONFLICT, False, *FAULTY))["wrong_labels"] == 1


@pytest.mark.parametrize("steps", [changed(CONFLICT, 1, draw(FIRST)), changed(CONFLICT, 4, draw(WRONG))])
def test_sketches_of_a_conflict_that_do_not_follow_their_plans_are_found(steps):
    assert errors(sample(Subset.CONFLICT, False, *steps))["wrong_states"] >= 1


def test_a_refined_image_that_is_still_wrong_is_found():
    found = errors(sample(Subset.ALIGNMENT, False, *changed(FAULTY, 3, draw(SECOND))))
    assert found == {"wrong_states": 1, "wrong_words": 1}


@pytest.mark.parametrize(
    "words",
    [
        f"the sketch shows {name(WRONG)} at the left instead of {name(FIRST)}<refine>paint it well</refine>",
        f"it is bad<refine>{CHANGE}</refine>",
        f"the sketch lacks {name(FIRST)} at the left<refine>add {name(FIRST)} at the right</refine>",
    ],
)
def test_inspections_that_are_not_understood_or_do_not_put_it_right_are_found(words):
    assert errors(sample(Subset.ALIGNMENT, False, *changed(FAULTY, 2, words)))["wrong_words"] >= 1


def test_a_correction_that_nobody_carries_out_is_found():
    assert errors(sample(Subset.ALIGNMENT, False, *FAULTY[:3])) == {"wrong_words": 1}


def test_an_inspection_that_forgets_what_is_missing_is_found():
    said = changed(RIGHT, 2, "the sketch follows the plan and the prompt is complete")
    assert errors(sample(Subset.CONFLICT, True, *said)) == {"wrong_words": 1}


@pytest.mark.parametrize("text", ["<ins>paint it</ins><des>a picture</des>", "<ins>add a star"])
def test_plans_that_are_not_understood_are_found(drawing, text):
    drawing.transcript.emissions[0].content = text
    assert errors(drawing)["wrong_words"] >= 1


@pytest.mark.parametrize("k", [0, -1])
def test_wrong_states_of_a_drawing_are_found(drawing, k):
    images = [entry for entry in drawing.transcript.emissions if entry.stage.is_image]
    images[k].content = np.full_like(images[k].content, 255)
    assert errors(drawing)["wrong_states"] >= 1


def test_a_drawing_that_is_not_finished_is_found(drawing):
    transcript = drawing.transcript
    short = replace(drawing, transcript=replace(transcript, emissions=transcript.emissions[:3], ended=None))
    assert errors(short)["wrong_states"] == 1


def test_detours_must_be_marked(drawing):
    unmarked = replace(drawing, provenance={**drawing.provenance, "planned": []})
    assert errors(unmarked) == {"wrong_labels": 1}


def test_detours_before_what_is_judged_must_be_marked(exact):
    whole = next(s for s in exact if s.provenance["planned"][:1] == [0] and len(s.transcript.images) > 2)
    cut = whole.transcript.cut(6)
    for entry in cut.emissions:
        entry.loss = entry is cut.emissions[-1]
    judged = replace(whole, subset=Subset.CONFLICT, transcript=cut, label=True)
    assert errors(judged) == {}
    assert errors(replace(judged, provenance={})) == {"wrong_labels": 1}


def test_a_detour_that_is_not_announced_is_a_mistake(exact):
    hidden = copy.deepcopy(next(s for s in exact if "change" in s.kinds))
    for entry in hidden.transcript.emissions:
        if entry.stage is Stage.PLAN:
            entry.content = entry.content.replace("as a placeholder, ", "")
    assert errors(hidden)["wrong_words"] >= 1


def test_loss_flags_and_hashes_are_checked(drawing):
    drawing.transcript.emissions[1].loss = False
    assert errors(drawing) == {"wrong_labels": 1}
    assert errors(sample(Subset.CONFLICT, True, *RIGHT, graph_hash="0" * 64)) == {"wrong_labels": 1}


def test_test_graphs_in_training_are_found_however_they_are_told():
    held = next(task for task in heldout() if task.tag == "position" and task.graph.nodes[0].color)
    (made,) = ExactMultiTurn(num=1).make(0, 1)
    for prompt in (held.prompt, held.prompt.capitalize() + "."):
        transcript = replace(made.transcript, prompt=prompt, meta={})
        assert errors(replace(made, transcript=transcript))["test_graphs"] == 1
    real = Sample(subset=Subset.MULTI_TURN, transcript=Transcript(prompt="A photo of a bench", size=64))
    assert errors(real) == {"test_graphs": 1} and audit([real]).unchecked == 1


def test_graphs_in_the_wrong_split_are_found():
    (kept,) = ExactMultiTurn(num=1, split="validation").make(0, 1)
    (taught,) = ExactMultiTurn(num=1).make(0, 1)
    assert errors(kept) == errors(taught) == {}
    assert errors(replace(kept, split="train")) == errors(replace(taught, split="validation")) == {"leaks": 1}


def test_single_objects_are_no_test_graphs():
    single = next(task for task in heldout() if task.tag == "single_object")
    assert data_split(task_of(single.graph).graph) == "train"


def test_audits_and_tallies_of_parts_add_up_and_are_kept_as_json(exact):
    bad = [replace(s, split="validation") for s in exact[:NUM_FINDINGS]]
    parts = audit(exact[:50]) + audit(bad[:10]) + audit(exact[50:]) + audit(bad[10:])
    whole = audit([*exact, *bad])
    assert replace(parts, findings=()) == replace(whole, findings=()) and len(parts.findings) == NUM_FINDINGS
    assert Audit.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    assert not whole.is_clean and "in the wrong split" in str(whole)
    counted = tally(exact[:70]) + tally(exact[70:])
    assert counted == tally(exact) == Tally.from_json(json.loads(json.dumps(counted.to_json())))


def test_table_1_has_the_rows_of_the_paper():
    samples = [
        sample(Subset.CONFLICT, True, *RIGHT),
        sample(Subset.CONFLICT, False, *CONFLICT),
        sample(Subset.CONFLICT, False, *CONFLICT),
        *ExactMultiTurn(num=3).make(0, 3),
    ]
    lines = table1(samples).splitlines()
    nums = [len(each.transcript.images) for each in samples[3:]]
    words = [len(each.transcript.prompt.split()) for each in samples[3:]]
    assert "| multi_turn | samples | 3 | 32,012 |" in lines
    assert f"| multi_turn | average images per sample | {sum(nums) / 3:.2f} | 3.51 |" in lines
    assert f"| multi_turn | most images of a sample | {max(nums)} | 5 |" in lines
    assert f"| multi_turn | average prompt length (words) | {sum(words) / 3:.1f} | 152.8 |" in lines
    assert "| conflict | positive | 1 | 6,905 |" in lines and "| conflict | negative | 2 | 8,296 |" in lines
    assert not any("alignment" in line for line in lines)
    assert table1(samples, "validation").count("\n") == 1


def test_real_pictures_are_not_taken_for_the_mini_worlds():
    """However their prompts read."""
    (made,) = ExactMultiTurn(num=1).make(0, 1)
    spoiled = replace(made.transcript, emissions=[replace(e) for e in made.transcript.emissions])
    for entry in spoiled.emissions:
        entry.content = np.zeros((64, 64, 3), np.uint8) if entry.stage.is_image else entry.content
    for source in ("genref", "kontext", "bagel-edit"):
        found = audit([replace(made, transcript=spoiled, provenance={"source": source})])
        assert found.is_clean and (found.unchecked, found.states) == (1, 0)
    assert audit([replace(made, transcript=spoiled)]).wrong_states
