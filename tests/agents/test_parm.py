"""PARM's rule on a painter that counts: who is looked at, who is given up, who is kept, and what all of it costs."""

import sys
from pathlib import Path

import pytest

from strokes.agents.bagel.sample import Sampling
from strokes.agents.one_shot import OneShot
from strokes.agents.parm import MALFORMED, NEVER_CLEAR, Assessment, Parm, choose
from strokes.agents.rollout import Rules, chunks, rollout
from strokes.agents.scripted import ScriptedPainter
from strokes.envs import Stage, Transcript
from strokes.envs.protocols import Opinion
from strokes.envs.testing import PolicyConformance

sys.path.insert(0, str(Path(__file__).parent))  # for `toys`

from toys import GUIDED, Says, ToyPainter, mark

STEPS, N = 6, 4
UNSURE = Opinion(said=None)


def by(*values):
    """An answer for each member."""
    return lambda seen: values[seen.member]


def from_step(*steps):
    """Clear from a step on, for each member; ``None``: never."""
    return lambda seen: float(steps[seen.member] is not None and seen.step >= steps[seen.member])


def search(verifier, painter=None, *, num_canvases=1, rules=None, **options):
    """What a search draws, and the painter that drew."""
    painter = painter or ToyPainter(STEPS)
    options = {"rule": "pruned", "is_sketch_seen": False, "flow_steps": range(1, STEPS + 1), **options}
    n = options.pop("n", N)
    (chunk,) = chunks(["a toy"], seed=0, num_members=num_canvases)
    return rollout(Parm(painter, n, verifier, rules=rules, **options), chunk, rules=rules), painter


def shown(trajectory):
    return mark(trajectory.transcript.canvas).member


def test_a_rejected_candidate_is_drawn_no_further():
    verifier = Says(clarity=from_step(2, 3, 1, None), potential=by(0.9, 0.1, 0.2, 0.9), outcome=by(0.7, 1, 1, 1))
    (drawn,), painter = search(verifier)
    steps = [painter.done[member, "steps"] for member in range(N)]
    assert steps == [STEPS, 3, 1, STEPS] and shown(drawn) == 0
    assert [painter.done[member, "nfe"] for member in range(N)] == [GUIDED * each for each in steps]
    # the looks at it, and the picture of those that were finished
    assert [painter.done[member, "decodes"] for member in range(N)] == [2 + 1, 3, 1, STEPS + 1]
    assert [painter.done[member, "previews"] for member in range(N)] == [2, 3, 1, STEPS]
    assert [painter.done[member, "tokens"] for member in range(N)] == [15, 5, 5, 15]
    asked = [(question, seen.member) for question, seen in verifier.asked]
    assert [asked.count(("potential", member)) for member in range(N)] == [1, 1, 1, 0]
    assert asked.count(("outcome", 0)) == 1 and verifier.count("outcome") == 1


def test_as_released_a_rejected_candidate_is_drawn_to_its_end_and_loses():
    verifier = Says(clarity=from_step(2, 3, 1, None), potential=by(0.1, 0.9, 0.2, 0.9), outcome=by(1, 0.2, 1, 1))
    (drawn,), painter = search(verifier, rule="released")
    assert [painter.done[member, "steps"] for member in range(N)] == [STEPS] * N and shown(drawn) == 1
    assert verifier.count("clarity") == 2 + 3 + 1 + STEPS


@pytest.mark.parametrize("rule", ["released", "pruned"])
def test_where_all_are_rejected_at_once_the_least_rejected_is_drawn(rule):
    verifier = Says(clarity=by(1, 1, 1, 1), potential=by(0.1, 0.3, 0.4, 0.4), outcome=by())
    (drawn,), painter = search(verifier, rule=rule)
    assert shown(drawn) == 2 and mark(drawn.transcript.canvas).step == STEPS and drawn.transcript.ended == "stop"
    steps = [painter.done[member, "steps"] for member in range(N)]
    assert steps == ([STEPS] * N if rule == "released" else [1, 1, STEPS, 1])
    assert verifier.count("outcome") == 0


def test_where_all_are_rejected_one_after_another_somebody_is_left():
    verifier = Says(clarity=from_step(1, 2, 4, 3), potential=by(0.4, 0.3, 0.1, 0.2), outcome=by())
    (drawn,), painter = search(verifier)
    assert [painter.done[member, "steps"] for member in range(N)] == [1, 2, STEPS, 3] and shown(drawn) == 2


def test_no_answer_is_no_rejection_and_no_potential():
    verifier = Says(clarity=by(UNSURE, 1, 0, 1), potential=lambda s: UNSURE if s.member == 0 else 0.4, outcome=by())
    (drawn,), painter = search(verifier)
    assert [painter.done[member, "steps"] for member in range(N)] == [STEPS, 1, STEPS, 1]
    assert shown(drawn) == 2  # never clear counts less against it than no answer
    (drawn,), _ = search(Says(clarity=by(*[UNSURE] * N), potential=by(*[UNSURE] * N), outcome=by()))
    assert shown(drawn) == 0


def test_one_candidate_is_drawn_whatever_is_said_of_it():
    for clear, promising in ((0, 0), (1, 0), (1, 1)):
        verifier = Says(clarity=by(clear), potential=by(promising), outcome=by(0.0))
        (drawn,), painter = search(verifier, n=1)
        assert painter.done[0, "steps"] == STEPS == drawn.cost.steps and drawn.transcript.ended == "stop"


def test_of_equal_candidates_the_first_is_kept():
    verifier = Says(clarity=by(1, 1, 1, 1), potential=by(0.1, 0.9, 0.9, 0.9), outcome=by(0, 0.5, 0.5, 0.5))
    assert shown(search(verifier)[0][0]) == 1


def test_canvases_are_searched_together_and_each_for_itself():
    verifier = Says(
        clarity=lambda seen: 1.0,
        potential=lambda seen: float((seen.member + seen.canvas) % 3 == 0),
        outcome=lambda seen: seen.member / 10,
    )
    drawn, _ = search(verifier, num_canvases=3)
    assert [shown(each) for each in drawn] == [3, 2, 1]
    alone, _ = search(verifier)
    assert alone[0].transcript.emissions == drawn[0].transcript.emissions


def test_sketches_are_looked_at_once_they_are_drawn():
    verifier = Says(
        clarity=lambda seen: float(seen.image >= 1), potential=by(0.9, 0.2, 0.8, 0.1), outcome=by(0.3, 0, 0.6, 0)
    )
    painter = ToyPainter(STEPS, rounds=3)
    (drawn,), _ = search(verifier, painter, is_sketch_seen=True, flow_steps=())
    assert shown(drawn) == 2 and len(drawn.transcript.images) == 3
    assert [painter.done[member, "steps"] for member in range(N)] == [3 * STEPS, 2 * STEPS, 3 * STEPS, 2 * STEPS]
    assert {seen.step for _, seen in verifier.asked} == {STEPS} and verifier.count("clarity") == 2 * N
    assert painter.total("decodes") == 3 + 2 + 3 + 2  # a sketch is there already


def test_a_budget_smaller_than_a_drawing_gives_what_there_is_and_none_at_all_is_refused():
    verifier = Says(clarity=by(), potential=by(), outcome=by())
    (drawn,), painter = search(verifier, rules=Rules(budget=1))
    assert [entry.stage for entry in drawn.transcript.emissions] == [Stage.PLAN] and painter.total("steps") == 0
    assert drawn.cost.tokens == painter.total("tokens") and verifier.asked == []
    policy = Parm(ToyPainter(), 2, verifier, rules=Rules(budget=0))
    transcript = Transcript(prompt="a toy", size=48)
    with pytest.raises(ValueError, match="budget above 0"):
        policy.act([policy.start(transcript, 48, (0, 0))], [transcript.mask()])


def test_the_watcher_leaves_with_the_search_even_where_nobody_answers():
    def gone(seen):
        raise ConnectionError("gone")

    painter = ToyPainter(STEPS)
    with pytest.raises(OSError, match="gone"):
        search(Says(clarity=gone), painter)
    assert painter.watcher is None
    search(Says(clarity=by(0, 0, 0, 0)), painter)
    assert painter.watcher is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n of at least 1"),
        ({"rule": "parm"}, "rule among released, pruned"),
        ({"flow_steps": ()}, "something to look at"),
        ({"reflections": 4}, r"reflections in \[0, 3\]"),
        ({"painter": ScriptedPainter()}, "can be watched"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        search(Says(), **options)


def test_a_verifier_that_forgets_an_image_is_refused():
    class Forgetful(Says):
        def ask(self, question, looks):
            return super().ask(question, looks)[1:]

    with pytest.raises(ValueError, match="opinion on each of 4 images"):
        search(Forgetful(clarity=by(1, 1, 1, 1)))


def test_the_rule_needs_no_search():
    unclear, lost, malformed = Assessment(), Assessment(), Assessment()
    lost.hear_potential(Opinion(said=False, p_no=0.3))
    malformed.hear_potential(UNSURE)
    assert (unclear.no_prob, lost.no_prob, malformed.no_prob) == (NEVER_CLEAR, 0.3, MALFORMED)
    assert choose({0: malformed, 1: unclear, 2: lost}, {}) == 2
    assert choose({0: malformed, 1: unclear}, {}) == 1
    assert choose({0: lost, 1: Assessment()}, {1: 0.0}) == 1


def test_a_real_model_is_stopped_and_pays_only_for_what_it_drew(memorised):
    class First:
        """Rejects all but the first image that it sees at a time."""

        def ask(self, question, looks):
            said = [question != "potential" or k == 0 for k in range(len(looks))]
            return [Opinion(said=yes, p_yes=float(yes), p_no=float(not yes)) for yes in said]

    (chunk,) = chunks([memorised.prompt], seed=0)
    alone = rollout(memorised.policy(), chunk)[0]
    drawn = rollout(Parm(memorised.policy(), 3, First(), rule="pruned", flow_steps=[2]), chunk)[0]
    # three candidates begin; two end after two of three steps of their first image
    assert drawn.cost.steps == alone.cost.steps + 2 * 2
    assert drawn.cost.decodes == alone.cost.decodes + 3
    assert len(drawn.transcript.images) == len(alone.transcript.images)


class TestParmConformance(PolicyConformance):
    """A search is a policy like any other."""

    @pytest.fixture(autouse=True)
    def _model(self, memorised):
        self.memorised = memorised

    def make_policy(self):
        painter = OneShot(self.memorised.model, self.memorised.tokenizer, Sampling(num_timesteps=4))
        return Parm(painter, 2, Brightness(), rule="pruned", flow_steps=[1], reflections=1)


class Brightness:
    """A verifier that likes bright images."""

    def ask(self, question, looks):
        bright = [float(look.image.mean()) / 255 for look in looks]
        return [Opinion(said=value > 0.5, p_yes=value, p_no=1 - value) for value in bright]
