"""The ledger of every search against an independent count, and searches from their settings."""

import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from strokes.agents.beam import Beam
from strokes.agents.interleaved import Interleaved
from strokes.agents.ledger import Ledger
from strokes.agents.load import NANO, load_policy
from strokes.agents.one_shot import OneShot
from strokes.agents.parm import Parm
from strokes.agents.rollout import chunks, rollout
from strokes.agents.search import BestOfN, Outcome
from strokes.agents.searches import SEARCHES
from strokes.envs.protocols import Cost, Score

sys.path.insert(0, str(Path(__file__).parent))  # for `toys`

from toys import Says, ToyPainter

STEPS = 5
EVERY = range(1, STEPS + 1)


def verifier():
    """Of every kind of verdict some."""
    return Says(
        clarity=lambda seen: float(seen.step > seen.member),
        potential=lambda seen: ((7 * seen.member + 3 * seen.canvas + seen.image) % 5) / 5,
        outcome=lambda seen: ((3 * seen.member + seen.canvas) % 4) / 4,
    )


def searches(painter, judge):
    """Each of them, by name."""
    both = {"is_sketch_seen": True, "flow_steps": (2, 4)}
    return {
        "best-of-n": BestOfN(painter, 3, Outcome(judge)),
        "released": Parm(painter, 3, judge, rule="released", is_sketch_seen=False, flow_steps=EVERY),
        "pruned": Parm(painter, 3, judge, rule="pruned", is_sketch_seen=False, flow_steps=EVERY),
        "sketches": Parm(painter, 3, judge, rule="pruned"),
        "reflected": Parm(painter, 3, judge, rule="pruned", reflections=3, **both),
        "beam": Beam(painter, judge, width=2, branch=2),
    }


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("name", searches(ToyPainter(), None))
def test_the_ledger_is_what_was_done(name, rounds):
    painter, judge = ToyPainter(STEPS, rounds=rounds), verifier()
    (chunk,) = chunks(["a toy", "another"], seed=0, num_members=2)
    ledger = Ledger()
    for trajectory in rollout(searches(painter, judge)[name], chunk):
        ledger.book(trajectory.transcript.prompt, trajectory.cost)
        assert all(reply.cost == Cost() for reply in trajectory.replies[1:])
    bill = ledger.total
    for kind in ("steps", "nfe", "decodes", "tokens"):
        assert getattr(bill, kind) == painter.total(kind), kind
    assert bill.questions == bill.calls == len(judge.asked) > 0
    assert bill.remote_tokens == 7 * len(judge.asked)


@pytest.mark.parametrize("name", ["sketches", "released"])
def test_questions_take_time_that_is_counted_once(name):
    """The toy's drawings take no time, so all there is on the bill is that of questions outside of them."""

    class Slow:
        def ask(self, question, looks):
            time.sleep(0.01 * len(looks))
            return verifier().ask(question, looks)

    (chunk,) = chunks(["a toy"], seed=0)
    (drawn,) = rollout(searches(ToyPainter(STEPS), Slow())[name], chunk)
    if name == "sketches":
        assert drawn.cost.seconds >= 0.01 * drawn.cost.questions
    else:  # looks during a drawing are within the painter's own time
        assert 0.01 <= drawn.cost.seconds < 0.01 * (drawn.cost.questions - 1)


def test_whoever_chooses_is_asked_once_for_each_picture():
    (chunk,) = chunks(["a toy"], seed=0, num_members=2)
    judges = (Outcome(verifier()), lambda transcripts: [Score(total=0.5) for _ in transcripts])
    for judge in judges:
        drawn = rollout(BestOfN(ToyPainter(STEPS), 3, judge), chunk)
        assert [each.cost.questions for each in drawn] == [3, 3]


def test_giving_up_saves():
    costs = {}
    for name in ("released", "pruned"):
        painter, judge = ToyPainter(STEPS), verifier()
        (chunk,) = chunks(["a toy"], seed=0, num_members=4)
        costs[name] = sum(each.cost.steps for each in rollout(searches(painter, judge)[name], chunk))
    assert costs["pruned"] < costs["released"] == 4 * 3 * STEPS


def settings_of(name, *overrides):
    with initialize_config_module("strokes.configs", version_base="1.3"):
        config = compose("evaluate", [f"policy={name}", f"policy.path={NANO}", *overrides])
    return OmegaConf.to_container(config.policy, resolve=True)


def load(name, *overrides):
    settings = settings_of(name, *overrides)
    judge = verifier()
    return load_policy(
        settings, steps=settings["steps"], guidance=settings["guidance"], score_fn=Outcome(judge), verifier=judge
    )


def test_every_search_has_its_settings():
    loaded = {name: load(name) for name in SEARCHES}
    assert {name: type(each) for name, each in loaded.items()} == {
        "best-of-n": BestOfN,
        **dict.fromkeys(("parm", "parm-pruned", "parm-plus"), Parm),
        "beam": Beam,
    }
    parm, pruned, plus = (loaded[name] for name in ("parm", "parm-pruned", "parm-plus"))
    assert (parm.rule, pruned.rule, parm.reflections, plus.reflections) == ("released", "pruned", 0, 3)
    assert parm.flow_steps == set(range(1, 13)) and not parm.is_sketch_seen and isinstance(parm.policy, OneShot)
    assert isinstance(plus.policy, Interleaved) and isinstance(loaded["beam"].policy, Interleaved)


def test_what_is_looked_at_can_be_set():
    parm = load("parm", "policy.flow_steps=[4,8]", "policy.sketches=true", "policy.painter=strokes")
    assert parm.flow_steps == {4, 8} and parm.is_sketch_seen and isinstance(parm.policy, Interleaved)


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("parm", "policy.flow_steps=[0,4]", "a list of steps from 1 to 12, got"),
        ("parm", "policy.flow_steps=[13]", "a list of steps from 1 to 12, got"),
        ("parm", "policy.flow_steps=[]", "something to look at"),
        ("parm", "policy.n=many", "policy.n to be an integer"),
        ("parm", "policy.rule=pruned-late", "rule among released, pruned"),
        ("parm-plus", "policy.reflections=4", "reflections in"),
        ("parm", "policy.painter=monet", "policy.painter among one-shot, strokes, got 'monet'"),
        ("parm-plus", "policy.like=somewhere", "policy.unit, an evaluation of who draws, with policy.like and"),
        ("parm", "policy.unit=somewhere", "policy.unit with policy.like alone, got 'somewhere'"),
        ("beam", "policy.width=0", "policy.width to be an integer of at least 1"),
    ],
)
def test_bad_settings_are_named(name, override, words):
    with pytest.raises(ValueError, match=words):
        load(name, override)


def test_a_search_needs_its_verifier():
    settings = settings_of("parm")
    with pytest.raises(ValueError, match="a verifier for policy=parm"):
        load_policy(settings, steps=12, guidance=3.0)


def test_the_number_of_drawings_can_be_changed():
    parm = load("parm-pruned")
    other = parm.sized(7)
    assert (parm.n, other.n, other.rule, other.policy) == (4, 7, "pruned", parm.policy)
