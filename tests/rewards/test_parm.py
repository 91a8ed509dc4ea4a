"""PARM's verifier by each of its back ends, and the reward that it gives."""

import copy
import pickle

import numpy as np
import pytest
from drawn import BOTH, CIRCLE, DONE, FAULT, GREEN, HALF, PROMPT, REST, SQUARE, Says, draw, said, told

from strokes.agents.scripted import TEACHING, demonstrate
from strokes.envs.protocols import Cost, Look, Opinion, Reward
from strokes.envs.scenes.layout import sample_layout
from strokes.envs.scenes.render import render
from strokes.envs.scenes.tasks import sample_task
from strokes.envs.testing import RewardConformance, sample_transcripts
from strokes.envs.transcript import Transcript
from strokes.rewards.parm import ASKED, QUESTIONS, AnsweringVerifier, ExactVerifier, ParmReward, RemoteVerifier
from strokes.rewards.question import Verdict

WHITE = np.full((48, 48, 3), 255, np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
BOTH_SHAPES = draw(CIRCLE, SQUARE)


def exact(question, image, prompt=PROMPT, **meta):
    (opinion,) = ExactVerifier().ask(question, [Look(prompt, image, meta)])
    assert (opinion.p_yes, opinion.p_no) == {True: (1, 0), False: (0, 1), None: (None, None)}[opinion.said]
    return opinion


@pytest.mark.parametrize(
    ("image", "clear", "promising", "right"),
    [
        (BOTH_SHAPES, True, True, True),
        (draw(CIRCLE), True, True, False),  # what is missing can still come
        (draw(CIRCLE, GREEN), True, False, False),  # a green square was not asked for
        (draw(CIRCLE, SQUARE, ("red", "star", 8)), True, False, False),
        (draw(("red", "circle", 5), ("blue", "square", 3)), True, False, False),  # the wrong way round
        (draw(("red", "circle", 5)), True, True, False),  # the other one can still come right of it
        (WHITE, False, True, False),
        (NOISE, False, False, False),
    ],
)
def test_the_exact_world_knows(image, clear, promising, right):
    answers = [exact(question, image).said for question in ("clarity", "potential", "outcome")]
    assert answers == [clear, promising, right]


def test_counts_may_be_short_and_never_over():
    def of(number):
        return exact("potential", draw(*[("red", "star", 2 * k) for k in range(number)]), "two red stars").said

    assert [of(1), of(2), of(3)] == [True, True, False]


def test_whatever_is_right_has_potential():
    rng = np.random.default_rng(0)
    for _ in range(40):
        task = sample_task(rng)
        image = render(sample_layout(task.graph, rng, 64).scene)
        if exact("outcome", image, task.prompt).said:
            assert exact("potential", image, task.prompt).said and exact("clarity", image, task.prompt).said


def test_words_say_what_would_put_it_right():
    assert "green square" in exact("outcome", draw(CIRCLE, GREEN)).words
    assert exact("outcome", BOTH_SHAPES).words == ""
    assert exact("potential", draw(GREEN)).words and exact("clarity", WHITE).words == "it is blank"


def test_prompts_of_another_world_get_no_answer_about_them():
    for question in ("potential", "outcome"):
        assert exact(question, draw(CIRCLE), "a teapot in the rain") == Opinion(
            said=None, words="not in the language of the scenes"
        )


class Answers:
    def __init__(self, *p_yes):
        self.p_yes, self.asked = list(p_yes), []

    def answer(self, images, questions, prompts=None):
        self.asked += zip(questions, prompts, strict=True)
        return self.p_yes[: len(images)]


def test_a_model_says_the_more_probable_word():
    answerer = Answers(0.7, 0.2, None)
    opinions = AnsweringVerifier(answerer).ask("potential", [Look("a <ins>", WHITE)] * 3)
    assert [(o.said, o.p_yes) for o in opinions] == [(True, 0.7), (False, 0.2), (None, None)]
    assert [o.p_no for o in opinions] == [pytest.approx(0.3), pytest.approx(0.8), None]
    assert answerer.asked == [(ASKED["potential"], "a <ins>")] * 3
    assert len(set(ASKED.values())) == 3 and ASKED.keys() == QUESTIONS.keys()


def test_a_remote_judge_is_asked_with_guards_and_paid():
    failed = Verdict(status="timeout", error="too late", attempts=3)
    judge = Says(said("no", explanation="blurred", correction="add a star"), said("yes"), failed)
    opinions = RemoteVerifier(judge).ask("clarity", [Look(PROMPT, image) for image in (WHITE, BOTH_SHAPES, WHITE)])
    assert [request.question for request in judge.asked] == [QUESTIONS["clarity"]] * 3
    assert judge.asked[1].images[0] is BOTH_SHAPES and judge.asked[0].fields == {"prompt": PROMPT}
    assert opinions[0] == Opinion(said=False, p_yes=0, p_no=1, words="add a star", cost=Cost(calls=2, remote_tokens=15))
    assert opinions[1].said and opinions[1].words == ""
    assert opinions[2] == Opinion(said=None, words="too late", cost=Cost(calls=3))


class Chances:
    """A verifier that reads its probabilities off an image's first pixel: red is potential, blue the outcome.

    All but blank images are clear.
    """

    def __init__(self, *, silent=()):
        self.silent, self.asked = silent, []

    def ask(self, question, looks):
        self.asked += [question] * len(looks)
        channel = {"clarity": 1, "potential": 0, "outcome": 2}[question]
        p_yes = [float(look.image[0, 0, channel]) / 200 for look in looks]
        if question == "clarity":
            p_yes = [0.0 if (look.image == 255).all() else 1.0 for look in looks]
        return [
            Opinion(said=None, cost=Cost(calls=1))
            if question in self.silent or p > 1
            else Opinion(said=p >= 0.5, p_yes=p, p_no=1 - p, cost=Cost(calls=1))
            for p in p_yes
        ]


def canvas(potential, outcome=0.0):
    """An image of that potential and outcome; ``None``: none can be told."""
    image = WHITE.copy()
    image[0, 0] = 255 if potential is None else round(200 * potential), 0, round(200 * outcome)
    return image


def score(transcript, verifier=None, **options):
    reward: Reward = ParmReward(verifier=verifier or Chances(), **options)
    (found,) = reward([transcript])
    assert len(found.steps) == len(found.pay) == len(transcript.emissions)
    assert set(found.terms) | {name for step in found.steps for name in step} <= set(reward.names)
    return found


def test_every_image_earns_what_it_did_for_the_chances():
    drawing = told(HALF, canvas(0.8), DONE, REST, canvas(0.3), FAULT, canvas(0.9, outcome=0.7), "")
    found = score(drawing)
    assert found.pay == pytest.approx((0, 0.3, 0, 0, -0.5, 0, 0.6, 0))
    assert found.steps[4] == pytest.approx({"potential": -0.5}) and found.steps[5] == {}
    assert found.total == pytest.approx(0.7) and found.terms == {"outcome": found.total}
    assert sum(found.pay) == pytest.approx(0.9 - 0.5)
    assert (found.cost.calls, found.cost.questions) == (7, 7)  # three images, two questions each, and the outcome
    assert sum(score(drawing, process=0.25).pay) == pytest.approx(0.25 * 0.4)


def test_a_missing_verdict_is_missing_and_so_is_the_gain_over_it():
    found = score(told(HALF, canvas(0.8), DONE, REST, canvas(None), FAULT, canvas(0.9)))
    assert [found.is_missing(k) for k in range(7)] == [False, False, False, False, True, False, True]
    assert found.pay[1] == pytest.approx(0.3) and found.total == 0
    assert score(told(HALF, canvas(0.8)), Chances(silent=["outcome"])).total is None
    assert score(told(HALF, canvas(0.8)), Chances(silent=["clarity"])).is_missing(1)


def test_what_is_illegal_or_from_outside_earns_nothing():
    drawing = Transcript(prompt=PROMPT, size=48)
    drawing.give(canvas(0.2))
    assert drawing.record((1, canvas(0.9))) != ""  # a sketch before any plan
    for stage, content in ((0, HALF), (1, canvas(0.6))):
        assert drawing.record((stage, content)) == ""
    found = score(drawing)
    assert found.pay == pytest.approx((0, 0, 0, 0.4)) and found.steps[:3] == ({}, {}, {})


def test_a_drawing_without_a_picture_is_wrong_and_one_under_way_is_not_judged():
    assert score(told(BOTH)).total == 0 and score(told(BOTH, ended=None)).total is None


def test_without_weight_on_the_process_only_the_outcome_is_asked():
    verifier = Chances()
    found = score(told(HALF, canvas(0.8, outcome=0.6)), verifier, process=0.0)
    assert verifier.asked == ["outcome"] and found.pay == (0, 0) and found.total == pytest.approx(0.6)


def test_the_exact_world_pays_sketches_on_the_way():
    found = score(told(HALF, draw(CIRCLE), DONE, REST, draw(CIRCLE, GREEN), FAULT, BOTH_SHAPES, ""), ExactVerifier())
    assert found.pay == (0, 0.5, 0, 0, -1, 0, 1, 0) and found.total == 1


def test_what_cannot_be_read_earns_nothing():
    assert score(told(HALF, WHITE), ExactVerifier()).pay == (0, 0)  # and would have contradicted no prompt
    assert score(told(HALF, NOISE, DONE, REST, BOTH_SHAPES), ExactVerifier()).pay == (0, 0, 0, 0, 0.5)
    verifier, drawing = Chances(), told(HALF, canvas(0.8), DONE, REST, WHITE, FAULT, canvas(0.9, outcome=0.7), "")
    assert score(drawing, verifier).pay == pytest.approx((0, 0.3, 0, 0, 0, 0, 0.1, 0))
    assert verifier.asked == ["clarity"] * 3 + ["potential"] * 2 + ["outcome"]


def test_a_complete_drawing_is_paid_more_than_a_good_beginning():
    def paid(*said):
        found = score(told(*said), ExactVerifier())
        return found.total + sum(found.pay)

    whole, begun, wrong = paid(BOTH, BOTH_SHAPES), paid(HALF, draw(CIRCLE)), paid(BOTH, draw(CIRCLE, GREEN))
    assert (whole, begun, wrong) == (1.5, 0.5, -0.5)
    assert begun == (whole + wrong) / 2  # the bias that is documented


def test_the_reward_travels():
    reward, drawing = ParmReward(verifier=ExactVerifier()), told(BOTH, draw(CIRCLE, GREEN))
    for other in (copy.deepcopy(reward), pickle.loads(pickle.dumps(reward))):
        assert other([drawing]) == reward([drawing])


class TestParmReward(RewardConformance):
    def make_reward(self) -> Reward:
        return ParmReward(verifier=ExactVerifier())

    def make_transcripts(self) -> list[Transcript]:
        rng = np.random.default_rng(0)
        whole = [demonstrate(sample_task(rng), rng, 48, TEACHING) for _ in range(6)]
        return [*sample_transcripts(), *whole, *(t.cut(k) for t in whole[:2] for k in range(len(t.emissions)))]
