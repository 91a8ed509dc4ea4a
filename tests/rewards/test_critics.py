"""Critics: what is asked about a drawing, and what the exact one says."""

import json

import numpy as np
import pytest
from drawn import BOTH, CIRCLE, FAULT, GREEN, HALF, PROMPT, REST, SQUARE, Says, draw, said, told

from strokes.agents.rollout import chunks, rollout
from strokes.agents.scripted import Habits, ScriptedPainter
from strokes.envs.protocols import Cost
from strokes.envs.scenes.render import COLORS, SHAPES
from strokes.envs.scenes.tasks import sample_task
from strokes.envs.stages import Stage
from strokes.envs.transcript import GIVEN, Entry
from strokes.rewards.critics import (
    QUESTIONS,
    AnsweringCritic,
    Query,
    RemoteCritic,
    outcome_of,
    queries_of,
)
from strokes.rewards.exact import ExactCritic
from strokes.rewards.judged import OUTCOME, judge_all
from strokes.rewards.question import Verdict
from strokes.rewards.review import review


def exactly(**query):
    (judgement,) = ExactCritic().judge([Query(prompt=PROMPT, **query)])
    return judgement


def test_every_plan_and_image_is_asked_about_with_what_it_was_made_from():
    half, wrong, whole = draw(CIRCLE), draw(CIRCLE, GREEN), draw(CIRCLE, SQUARE)
    transcript = told(HALF, half, "the sketch follows the plan", REST, wrong, FAULT, whole)
    asked = queries_of(transcript)
    assert [(k, asked[k].kind) for k in asked] == [
        (0, "plan"),
        (1, "sketch"),
        (3, "plan"),
        (4, "sketch"),
        (6, "sketch"),
    ]
    first, second, refined = asked[0], asked[3], asked[6]
    assert first.images == () and first.earlier == () and first.plan == HALF
    assert all(map(np.array_equal, second.images, [half])) and second.earlier == (HALF,)
    assert len(refined.images) == 2 and all(map(np.array_equal, refined.images, [half, whole]))
    outcome = outcome_of(transcript)
    assert outcome is not None and np.array_equal(outcome.images[0], whole) and outcome.fields == {"prompt": PROMPT}
    assert outcome_of(told(HALF)) is None


def test_illegal_emissions_and_those_from_outside_are_not_asked_about():
    transcript = told(HALF, draw(CIRCLE))
    transcript.emissions.insert(0, Entry(stage=Stage.SKETCH, content=draw(SQUARE), source=GIVEN))
    transcript.emissions.insert(1, Entry(stage=Stage.STOP, content="", error="not now"))
    asked = queries_of(transcript)
    assert list(asked) == [2, 3] and np.array_equal(asked[2].images[0], draw(SQUARE))


def test_a_plan_that_replaces_a_wrong_one_says_so():
    wrong = "<ins>add a green star at the top</ins><des>a green star</des>"
    fix = "the plan asks for a green star, the prompt does not<refine>remove the green star</refine>"
    transcript = told(wrong, draw(("green", "star", 1)), fix, HALF)
    assert [q.is_corrected for q in queries_of(transcript).values()] == [False, False, True]
    fields = queries_of(transcript)[3].fields
    assert fields["replaces_a_wrong_plan"] and fields["earlier_instructions"] == ["add a green star at the top"]
    assert json.loads(json.dumps(fields)) == fields


def test_an_incomplete_plan_is_not_wrong_a_contradicting_one_is():
    assert exactly(kind="plan", plan=HALF).p_yes == 1
    unasked = exactly(kind="plan", plan=HALF.replace("red", "green"))
    assert unasked.p_yes == 0 and "the plan asks for a green circle" in unasked.explanation
    assert unasked.correction == "remove the green circle at the left"
    assert exactly(kind="plan", plan=REST, before=draw(CIRCLE)).p_yes == 1
    assert exactly(kind="plan", plan=REST).p_yes == 0  # it describes a circle that is not there
    assert exactly(kind="plan", plan="<ins>paint something</ins><des>nice</des>").p_yes == 0


def test_an_announced_placeholder_may_contradict_the_prompt_later_too():
    announced = "<ins>as a placeholder, add a pink moon at the top</ins><des>a pink moon</des>"
    moon = draw(("pink", "moon", 1))
    later = "<ins>add a red circle at the left</ins><des>a pink moon and a red circle</des>"
    assert exactly(kind="plan", plan=announced).p_yes == 1
    assert exactly(kind="plan", plan=later, earlier=(announced,), before=moon).p_yes == 1
    assert exactly(kind="plan", plan=later, before=moon).p_yes == 0  # nobody announced it


def test_a_sketch_is_held_against_its_plan_and_not_against_the_prompt():
    assert exactly(kind="sketch", plan=HALF, canvas=draw(CIRCLE)).p_yes == 1
    wrong = exactly(kind="sketch", plan=BOTH, canvas=draw(CIRCLE, GREEN))
    assert wrong.p_yes == 0 and "a green square at the center instead of a blue square" in wrong.explanation
    assert wrong.correction == "change the green square at the center to blue"
    green = BOTH.replace("blue", "green")
    assert exactly(kind="sketch", plan=green, canvas=draw(CIRCLE, GREEN)).p_yes == 1
    assert exactly(kind="sketch", plan=REST, before=draw(CIRCLE), canvas=draw(CIRCLE, SQUARE)).p_yes == 1


@pytest.mark.parametrize(
    ("canvas", "is_right"),
    [
        (draw(CIRCLE, SQUARE), True),
        (draw(CIRCLE), False),
        (draw(CIRCLE, SQUARE, ("pink", "star", 8)), False),
        (draw(*((c, s, k) for k, (c, s) in enumerate(zip(COLORS, SHAPES, strict=True)))), False),
        (np.full((48, 48, 3), (200, 30, 30), np.uint8), False),
        (np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8), False),
    ],
    ids=["right", "incomplete", "surplus", "one-of-each-shape", "uniform", "noise"],
)
def test_the_outcome_is_what_was_asked_for_and_nothing_besides(canvas, is_right):
    assert exactly(kind="outcome", canvas=canvas).p_yes == is_right


@pytest.mark.parametrize("habits", [Habits(), Habits(error_rate=0.5, detour_rate=0.4, plan_error_rate=0.4)])
def test_the_exact_critic_agrees_with_the_walk_through_whole_drawings(habits):
    rng = np.random.default_rng(0)
    tasks = [sample_task(rng) for _ in range(60)]
    (chunk,) = chunks([(task.prompt, task.meta) for task in tasks], seed=1, chunk_size=60)
    transcripts = [t.transcript for t in rollout(ScriptedPainter(habits), chunk)]
    compared = 0
    for transcript, judged in zip(transcripts, judge_all(ExactCritic(), transcripts), strict=True):
        seen = review(transcript)
        assert seen.verdict is not None and judged[OUTCOME].p_yes == seen.verdict.strict
        for k, judgement in judged.items():
            term = None if k == OUTCOME else seen.steps[k].get(transcript.emissions[k].stage.name.lower())
            if term is not None and transcript.emissions[k].stage is not Stage.REFINE:
                assert judgement.is_right == (term == 1)
                compared += 1
    assert compared > 100


def test_prompts_of_another_world_have_no_verdict_at_all():
    canvas = draw(CIRCLE)
    for query in (
        Query(kind="plan", prompt="a photo of a dog", plan=HALF),
        *(Query(kind=kind, prompt="a photo of a dog", plan=HALF, canvas=canvas) for kind in ("sketch", "outcome")),
    ):
        (judgement,) = ExactCritic().judge([query])
        assert judgement.p_yes is None
    (untold,) = ExactCritic().judge([Query(kind="sketch", prompt="", plan=HALF, canvas=canvas)])
    assert untold.p_yes == 1  # the plan is what a sketch is held against


def test_the_correction_of_an_outcome_says_what_to_take_away_and_what_to_add():
    assert exactly(kind="outcome", canvas=draw(CIRCLE, SQUARE)).correction == ""
    wrong = exactly(kind="outcome", canvas=draw(CIRCLE, GREEN))
    assert wrong.correction == "remove the green square at the center; add a blue square"


def test_a_remote_judge_is_asked_the_same_and_its_notes_are_kept():
    judge = Says(said("no", explanation="it is green", correction="paint it blue"), said("yes"))
    transcript = told(BOTH, draw(CIRCLE, GREEN))
    first, second, third = RemoteCritic(judge).judge([*queries_of(transcript).values(), outcome_of(transcript)])
    assert (first.p_yes, first.explanation, first.correction) == (0, "it is green", "paint it blue")
    assert second.is_right and first.cost == Cost(calls=2, remote_tokens=15) and third.p_yes == 0
    assert [request.question for request in judge.asked] == [QUESTIONS[kind] for kind in ("plan", "sketch", "outcome")]
    assert [len(request.images) for request in judge.asked] == [0, 1, 1]


def test_a_failure_is_no_verdict_and_says_why():
    (judgement,) = RemoteCritic(Says(Verdict(status="timeout", error="60 s"))).judge(
        [Query(kind="plan", prompt=PROMPT)]
    )
    assert judgement.p_yes is None and judgement.is_right is None and judgement.explanation == "60 s"


def test_a_model_that_answers_gives_its_probabilities():
    class Model:
        def answer(self, images, questions, prompts=None):
            self.seen = images, questions
            return [0.25] * len(images)

    model = Model()
    transcript = told(BOTH, draw(CIRCLE, GREEN))
    found = AnsweringCritic(model).judge([*queries_of(transcript).values()])
    assert [j.p_yes for j in found] == [0.25, 0.25]
    images, questions = model.seen
    assert images[0].min() == 255 and np.array_equal(images[1], draw(CIRCLE, GREEN))
    assert "a red circle and a blue square" in questions[1] and questions[1].endswith("Answer yes or no.")
