"""The bill of every search, drawn and judged by a real model, against counters in the model itself."""

from collections import Counter
from dataclasses import replace

import pytest

from strokes.agents import interleaved
from strokes.agents.bagel.context import Contexts
from strokes.agents.bagel.model import Bagel
from strokes.agents.bagel.queries import Denoiser
from strokes.agents.bagel.sample import Sampling
from strokes.agents.beam import Beam
from strokes.agents.interleaved import Interleaved
from strokes.agents.ledger import total
from strokes.agents.load import NANO
from strokes.agents.one_shot import OneShot
from strokes.agents.parm import Parm
from strokes.agents.rollout import Rules, chunks, rollout
from strokes.agents.search import BestOfN, Outcome
from strokes.agents.understanding import Understanding
from strokes.rewards.parm import AnsweringVerifier
from strokes.rewards.sampled import Sampled

RULES = Rules(size=48, budget=8)
QUICK = Sampling(num_timesteps=5, timestep_shift=1.0, cfg_text_scale=2.0, cfg_interval=(0.4, 1.0))
"""Four steps, of which some are guided and some are not."""
NUM_LATENTS = 9
"""Tokens of an image of 48 pixels."""


class Even:
    """Reads what it is asked about, and then tosses a coin: there are verdicts of every kind."""

    def __init__(self):
        self.verifier = AnsweringVerifier(Understanding.load(NANO))

    def ask(self, question, looks):
        opinions = self.verifier.ask(question, looks)
        return [replace(opinion, said=True, p_yes=0.5, p_no=0.5) for opinion in opinions]


@pytest.fixture(scope="module")
def judge():
    return Sampled(verifier=Even(), seed=1)


@pytest.fixture(scope="module")
def painters():
    in_strokes = Interleaved.load(NANO, QUICK, temperature=1.0)
    return {"one-shot": OneShot.load(NANO, QUICK), "strokes": in_strokes}


@pytest.fixture
def done(monkeypatch):
    """What the model was made to do."""
    counts = Counter()

    def count(owner, name, counted):
        original = getattr(owner, name)

        def wrapped(*args, **kwargs):
            result = original(*args, **kwargs)
            counts.update(counted(args, result))
            return result

        monkeypatch.setattr(owner, name, wrapped)

    count(Denoiser, "__call__", lambda args, _: {"steps": len(args[1])})
    count(Bagel, "velocity", lambda args, _: {"nfe": len(args[1]) // NUM_LATENTS})
    count(Bagel, "decode_latents", lambda args, _: {"decodes": len(args[1])})
    count(Contexts, "extend", lambda _, hidden: {"encoded": sum(map(len, hidden))})
    count(interleaved, "choose", lambda _, chosen: {"tokens": len(chosen[0])})
    count(interleaved, "decode_text", lambda _, texts: {"tokens": sum(len(text.tokens) for text in texts)})
    count(interleaved, "decode_text", lambda _, texts: {"encoded": sum(len(text.ids) + 2 for text in texts)})
    count(Understanding, "answer", lambda _, said: {"questions": len(said)})
    return counts


def search(name, painter, judge):
    options = {
        "released": {"rule": "released", "is_sketch_seen": False, "flow_steps": (1, 2, 3, 4)},
        "pruned": {"rule": "pruned", "is_sketch_seen": True, "flow_steps": (2, 3)},
        "reflected": {"rule": "pruned", "is_sketch_seen": True, "reflections": 2},
    }
    if name == "best-of-n":
        return BestOfN(painter, 3, Outcome(judge), RULES)
    if name == "beam":
        return Beam(painter, judge, width=2, branch=2, rules=RULES)
    return Parm(painter, 3, judge, rules=RULES, **options[name])


@pytest.mark.parametrize(
    ("name", "painter"),
    [
        ("best-of-n", "one-shot"),
        ("released", "one-shot"),
        ("pruned", "one-shot"),
        ("pruned", "strokes"),
        ("reflected", "strokes"),
        ("beam", "strokes"),
    ],
)
def test_the_bill_is_what_the_model_did(name, painter, painters, judge, done):
    (chunk,) = chunks(["a red circle", "two blue stars"], seed=4)
    drawn = rollout(search(name, painters[painter], judge), chunk, rules=RULES)
    bill = total(each.cost for each in drawn)
    kinds = ("steps", "nfe", "decodes", "tokens", "encoded", "questions")
    assert {kind: getattr(bill, kind) for kind in kinds} == {kind: done[kind] for kind in kinds}
    assert bill.questions > 0 and bill.steps < bill.nfe < 2 * bill.steps
