from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from strokes.agents.brush import SPOILS, mark, ordered, see, spoil, things, work
from strokes.agents.edits import KINDS, random_scene, sample_edit, sample_fault
from strokes.agents.random_legal import RandomLegal
from strokes.agents.scripted import TEACHING, Habits, ScriptedPainter, demonstrate
from strokes.envs.markup import parse_inspection, parse_plan
from strokes.envs.protocols import Policy
from strokes.envs.scenes.changes import apply, compare, graph_of, things_of
from strokes.envs.scenes.detect import detect
from strokes.envs.scenes.language import NOT_JUDGED, describe, parse, parse_edits, parse_report
from strokes.envs.scenes.render import Object, Scene, render
from strokes.envs.scenes.tasks import TAGS, heldout, sample_task, verdict
from strokes.envs.stages import Emission, Grammar, Stage
from strokes.envs.transcript import Ending, Transcript

HOUSE = "a red circle left of a blue square, and two green stars"


def paint(transcript, painter, seed=0, grammar=None, limit=60):
    """Let a policy go on from wherever a transcript stands."""
    session = painter.start(transcript, transcript.size, (seed,))
    for _ in range(limit):
        if transcript.ended is not None:
            break
        (reply,) = painter.act([session], [transcript.mask(grammar)])
        assert transcript.record(reply.emission, grammar=grammar) == ""
    painter.close([session])
    return transcript


def judged(transcript):
    return verdict(detect(transcript.canvas), parse(transcript.prompt).to_meta())


@pytest.mark.parametrize("habits", [Habits(), TEACHING])
def test_every_drawing_fulfils_its_prompt(habits):
    rng = np.random.default_rng(0)
    for tag in TAGS:
        for _ in range(8):
            task = sample_task(rng, tag=tag)
            transcript = demonstrate(task, rng, habits=habits)
            result = judged(transcript)
            assert result.correct and result.strict, (task.prompt, result)
            assert transcript.ended is Ending.STOP and dict(transcript.meta) == dict(task.meta)


def test_held_out_prompts_are_drawn_right_at_other_sizes():
    rng = np.random.default_rng(1)
    for task in heldout(limit=3):
        for size in (32, 64):
            assert judged(demonstrate(task, rng, size, Habits())).strict, task.prompt


def test_without_errors_nothing_is_refined_and_every_inspection_agrees():
    rng = np.random.default_rng(2)
    for _ in range(20):
        transcript = demonstrate(sample_task(rng), rng, habits=Habits())
        assert all(entry.loss for entry in transcript.emissions)
        reports = [parse_report(e.content) for e in transcript.emissions if e.stage is Stage.INSPECT]
        assert not any(report.faults for report in reports)
        assert [report.complete for report in reports] == [False] * (len(reports) - 1) + [True]


def test_plans_say_how_the_scene_looks_afterwards_and_sketches_show_it():
    rng = np.random.default_rng(3)
    for _ in range(20):
        transcript, state = demonstrate(sample_task(rng), rng, habits=replace(TEACHING, error_rate=0.0)), ()
        for entry in transcript.emissions:
            if entry.stage is Stage.PLAN:
                plan = parse_plan(entry.content)
                state = apply(state, parse_edits(plan.ins))
                assert describe(graph_of(state)) == plan.des
            elif entry.stage.is_image:
                assert things(see(entry.content)) == state


def test_objects_are_added_in_reading_order():
    rng = np.random.default_rng(4)
    for _ in range(20):
        transcript = demonstrate(sample_task(rng, tag="composition"), rng, habits=Habits())
        plans = [parse_plan(e.content) for e in transcript.emissions if e.stage is Stage.PLAN]
        cells = [edit.thing.cell for plan in plans for edit in parse_edits(plan.ins)]
        assert cells == sorted(cells) and all("at the" not in plan.des for plan in plans)


def test_what_failed_is_context_only():
    rng = np.random.default_rng(5)
    images = plans = 0
    for _ in range(60):
        entries = demonstrate(sample_task(rng), rng, habits=TEACHING).emissions
        for k, entry in enumerate(entries):
            refine = entry.stage is Stage.INSPECT and parse_inspection(entry.content).refine is not None
            if refine and entries[k + 1].stage is Stage.PLAN:
                assert entries[k - 1].loss and not entries[k - 2].loss and entries[k + 1].loss
                assert parse_plan(entries[k + 1].content).ins == parse_inspection(entry.content).refine
                plans += 1
            elif refine:
                assert not entries[k - 1].loss and entries[k + 1].loss
                images += 1
        rejected = [e for k, e in enumerate(entries) if not e.loss]
        assert all(e.stage in (Stage.PLAN, Stage.SKETCH) for e in rejected)
    assert images > 5 and plans > 2


def test_rates_are_kept():
    rng = np.random.default_rng(6)
    habits = Habits(error_rate=0.5)
    drawn = [demonstrate(sample_task(rng, tag="composition"), rng, habits=habits) for _ in range(60)]
    stages = Counter(entry.stage for transcript in drawn for entry in transcript.emissions)
    assert 0.38 < stages[Stage.REFINE] / stages[Stage.SKETCH] < 0.62


def test_detours_lengthen_drawings_to_the_paper_s_length():
    rng = np.random.default_rng(7)
    tasks = [sample_task(rng, tag="composition") for _ in range(60)]
    straight, winding = (
        np.mean([len(demonstrate(task, rng, habits=Habits(detour_rate=rate)).images) for task in tasks])
        for rate in (0.0, 0.25)
    )
    assert straight + 0.3 < winding < 4.0


@pytest.mark.parametrize("seed", range(6))
def test_a_drawing_cut_anywhere_is_continued_to_its_end(seed):
    rng = np.random.default_rng(seed)
    whole = demonstrate(sample_task(rng, tag="composition"), rng, habits=TEACHING)
    for k in range(len(whole.emissions)):
        transcript = paint(whole.cut(k), ScriptedPainter(), seed)
        assert transcript.ended is Ending.STOP and judged(transcript).strict, k


def test_other_people_s_plans_sketches_and_words_are_taken_up():
    circle = Object("circle", "blue", 8.0, 24.0, 6.0)
    edits = {
        0: "<ins>add a red circle at the bottom right</ins><des>a red circle</des>",
        1: render(Scene((circle, Object("moon", "pink", 40.0, 40.0, 6.0)), 48)),
        2: "looks fine to me",
    }
    rng = np.random.default_rng(8)
    for k, content in edits.items():
        whole = demonstrate(HOUSE, rng, habits=Habits())
        transcript = paint(whole.edit(k, content), ScriptedPainter())
        assert transcript.ended is Ending.STOP and judged(transcript).strict, k
    transcript = Transcript(prompt=HOUSE, size=48)
    for emission in (
        Emission(Stage.PLAN, "<ins>Paint something lovely!</ins><des>two green stars</des>"),
        Emission(Stage.SKETCH, np.full((48, 48, 3), 90, np.uint8)),
        Emission(Stage.INSPECT, "hm<refine>make it pop</refine>"),
    ):
        assert transcript.record(emission, source="human") == ""
    transcript.interject("please hurry")
    assert judged(paint(transcript, ScriptedPainter())).strict


def test_a_wrong_sketch_by_somebody_else_is_named_and_repaired():
    transcript = Transcript(prompt="a red circle", size=48)
    assert not transcript.record((Stage.PLAN, "<ins>add a red circle at the left</ins><des>a red circle</des>"))
    assert not transcript.record((Stage.SKETCH, render(Scene((Object("circle", "blue", 8.0, 24.0, 6.0),), 48))))
    paint(transcript, ScriptedPainter())
    assert transcript.emissions[2].content == (
        "the sketch shows a blue circle at the left instead of a red circle"
        "<refine>change the blue circle at the left to red</refine>"
    )
    assert [entry.stage for entry in transcript.emissions[3:]] == [Stage.REFINE, Stage.STOP]
    assert judged(transcript).strict


@pytest.mark.parametrize("thing", ["the red circle at the left", "the blue square at the right"])
def test_redrawing_one_thing_leaves_a_blot_elsewhere_alone(thing):
    """What is there, or what the plan added: a person asks for it anew while something unreadable is beside it."""
    image = render(Scene((Object("circle", "red", 8.0, 24.0, 6.0),), 48))
    image[20:28, 20:23] = image[20:22, 20:28] = image[26:28, 20:28] = 90  # no shape of the world
    assert [each.thing.shape for each in see(image)] == ["circle", None]
    canvas = see(image)
    edits = parse_edits(f"redraw {thing}")
    drawn = work(canvas, edits, np.random.default_rng(14), 48)
    assert things(drawn) == apply(things(canvas), edits) and set(canvas) <= set(drawn)
    transcript = Transcript(prompt="a red circle left of a blue square", size=48)
    plan = "<ins>add a red circle at the left</ins><des>a red circle</des>"
    for emission in ((Stage.PLAN, plan), (Stage.SKETCH, image), (Stage.INSPECT, f"hm<refine>redraw {thing}</refine>")):
        assert not transcript.record(emission, source="human")
    assert judged(paint(transcript, ScriptedPainter())).strict


@pytest.mark.parametrize(
    "words",
    [
        "add a blot at the top",  # nobody can draw one
        "redraw a blot; redraw a pink moon",
        "move the red circle at the left to the top; add the blot",
        "add a heart at the top; add a heart",  # in no colour
        "add the star; remove the red star",
        "replace the red circle with a heart; change the heart to pink",
        "swap the red circle at the left and the blue square at the right",
    ],
)
@pytest.mark.parametrize("as_plan", [True, False])
def test_whatever_others_ask_for_is_taken_up_or_left_and_the_prompt_is_fulfilled(words, as_plan):
    transcript = Transcript(prompt=HOUSE, size=48)
    plan, image = "<ins>add a red circle at the left</ins><des>a red circle</des>", Object("circle", "red", 8, 24, 6)
    said: list[tuple[Stage, object]] = [(Stage.PLAN, plan), (Stage.SKETCH, render(Scene((image,), 48)))]
    if as_plan:
        said += [(Stage.INSPECT, "hm"), (Stage.PLAN, f"<ins>{words}</ins><des>nothing</des>")]
    else:
        said += [(Stage.INSPECT, f"hm<refine>{words}</refine>")]
    for emission in said:
        assert not transcript.record(emission, source="human")
    for seed in range(3):
        assert judged(paint(transcript.cut(len(said)), ScriptedPainter(TEACHING), seed)).strict


@pytest.mark.parametrize("prompt", ["a dog on the moon", "seven stars", "", "<ins>add</ins>", "null", "🎨 ${x}"])
def test_a_prompt_outside_the_language_is_drawn_and_not_judged(prompt):
    transcript = demonstrate(prompt, np.random.default_rng(9))
    assert transcript.ended is Ending.STOP and len(transcript.images) == 1
    assert NOT_JUDGED in [entry.content for entry in transcript.emissions if entry.stage is Stage.INSPECT]


@pytest.mark.parametrize("painter", [ScriptedPainter(TEACHING), RandomLegal()])
@pytest.mark.parametrize("grammar", [Grammar(), Grammar(inspect_refined=True), Grammar(stop_after_image=True)])
def test_policies_only_emit_what_is_legal(painter, grammar):
    assert isinstance(painter, Policy)
    rng = np.random.default_rng(10)
    for seed in range(10):
        transcript = Transcript(prompt=sample_task(rng).prompt, size=48)
        paint(transcript, painter, seed, grammar, limit=40)
        assert transcript.emissions and not any(entry.error for entry in transcript.emissions)


def test_a_batch_draws_what_single_sessions_draw():
    prompts = ["three stars", HOUSE, "a moon"]
    alone = [paint(Transcript(prompt=p, size=48), ScriptedPainter(TEACHING), k) for k, p in enumerate(prompts)]
    painter = ScriptedPainter(TEACHING)
    together = [Transcript(prompt=p, size=48) for p in prompts]
    sessions = [painter.start(transcript, 48, (k,)) for k, transcript in enumerate(together)]
    while live := [k for k, transcript in enumerate(together) if transcript.ended is None]:
        replies = painter.act([sessions[k] for k in live], [together[k].mask() for k in live])
        for k, reply in zip(live, replies, strict=True):
            together[k].record(reply.emission)
    assert together == alone


def test_edits_change_what_they_say_and_nothing_else():
    rng = np.random.default_rng(11)
    for kind in KINDS:
        for _ in range(25):
            example = sample_edit(rng, kind=kind)
            assert apply(things_of(example.source), parse_edits(example.ins)) == things_of(example.target)
            assert describe(graph_of(example.target)) == example.des
            kept = set(example.source.objects) & set(example.target.objects)
            gone = len(example.source.objects) - len(kept)
            assert gone == (0 if kind == "add" else 1)


@pytest.mark.parametrize("kind", SPOILS)
def test_every_spoiled_sketch_is_seen_as_what_it_is_and_repaired_in_one_go(kind):
    rng = np.random.default_rng(12)
    for _ in range(25):
        canvas = ordered(mark(item, 48) for item in random_scene(rng, 48, 3).objects)
        image, shown = spoil(canvas, [], rng, 48, kind)
        assert things(see(image)) == things(shown)
        faults = compare(things(shown), things(canvas))
        assert len(faults) == 1


def test_faults_come_with_the_correction_that_repairs_them():
    rng = np.random.default_rng(13)
    wrong = 0
    for _ in range(60):
        example = sample_fault(rng)
        assert bool(parse_report(example.comment).faults) == (example.refine is not None)
        if example.refine is not None:
            wrong += 1
            repaired = work(see(example.image), parse_edits(example.refine), rng, 48)
            assert sorted(map(str, things(repaired))) == sorted(map(str, things_of(example.target)))
    assert 15 < wrong < 45


def test_a_foreign_session_and_an_empty_mask_are_refused():
    painter = ScriptedPainter()
    transcript = Transcript(prompt="a star", size=48)
    with pytest.raises(ValueError, match="session"):
        painter.act([RandomLegal().start(transcript, 48, (0,))], [transcript.mask()])
    with pytest.raises(ValueError, match="mask"):
        painter.act([painter.start(transcript, 48, (0,))], [np.zeros(5, np.int8)])


@pytest.mark.parametrize(
    "wrong", [{"error_rate": 7}, {"detour_rate": "high"}, {"plan_error_rate": float("nan")}, {"per_step": (2, 1)}]
)
def test_impossible_habits_are_refused(wrong):
    with pytest.raises(ValueError, match="Expected"):
        Habits(**wrong)
