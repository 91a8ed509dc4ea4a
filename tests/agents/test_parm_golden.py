"""PARM, ORM and the baseline against the released code's selections, questions and counts (tests/golden/parm).

Its toy generator is ``ToyPainter``: T sampling steps, an image that says whose it is and how far it got. The order of
questions is ours, for all candidates advance together; which questions are asked is theirs.
"""

import json
import os
import sys
from pathlib import Path

import pytest

from strokes.agents.ledger import total
from strokes.agents.parm import Assessment, Parm, choose
from strokes.agents.rollout import chunks, rollout
from strokes.agents.search import BestOfN, Outcome, worth
from strokes.envs.protocols import Opinion

sys.path.insert(0, str(Path(__file__).parent))  # for `toys`

from toys import GUIDED, ToyPainter, mark

GOLDEN = Path(os.environ.get("STROKES_GOLDEN") or Path(__file__).parents[1] / "golden") / "parm"
CASES = json.loads((GOLDEN / "parm_cases.json").read_text())
WORDS = {"yes": True, "no": False}


def _numbered(cases):
    return pytest.mark.parametrize("case", cases, ids=[f"{k}-{case.get('mode', '')}" for k, case in enumerate(cases)])


def _said(token):
    """The word that a sampled token is, lower-cased."""
    return WORDS.get(token.lower())


class Script:
    """The case's judge: what it samples and how probable it was, by candidate and step; remembers what it was asked."""

    def __init__(self, case):
        self.script, self.num, self.asked = case["script"], case["search_num"], []

    def ask(self, question, looks):
        return [self._answer(question, mark(look.image)) for look in looks]

    def _answer(self, question, seen):
        kind, number = {"outcome": "orm"}.get(question, question), seen.canvas * self.num + seen.member
        answer = self.script[kind][number]
        answer = answer if kind == "orm" else answer[seen.step - 1]
        token, prob = (answer, None) if kind == "clarity" else answer
        self.asked.append([kind, number, seen.step - 1, token])
        probs = {"p_yes": prob} if kind == "orm" else {"p_no": prob}
        return Opinion(said=_said(token), **probs)


def _searched(search, case):
    (chunk,) = chunks(["a toy"], seed=0, num_members=case["eval_num"], chunk_size=case["eval_num"])
    return rollout(search, chunk)


def _chosen(trajectories, case):
    """The candidate whose last image each canvas shows."""
    marks = [mark(each.transcript.canvas) for each in trajectories]
    assert [each.canvas for each in marks] == list(range(case["eval_num"]))
    assert {each.step for each in marks} == {case["timesteps"]}
    return [each.member for each in marks]


def _check(case, painter, trajectories, asked):
    """Selections, questions and steps; returns the latents decoded."""
    expected, bill = case["expected"], total(each.cost for each in trajectories)
    assert sorted(asked) == sorted(expected["judge_calls"])
    assert bill.questions == len(asked) == sum(expected["n_judge_calls"].values())
    assert bill.steps == painter.total("steps") == expected["n_forward_passes"]
    assert bill.nfe == painter.total("nfe") == expected["n_forward_passes"] * expected["forward_batch_size"]
    assert expected["forward_batch_size"] == GUIDED
    assert bill.decodes == painter.total("decodes")
    return bill.decodes


@_numbered(CASES["parm"])
def test_parm_as_released(case):
    painter, script = ToyPainter(case["timesteps"]), Script(case)
    num, steps = case["search_num"], case["timesteps"]
    search = Parm(painter, num, script, rule="released", is_sketch_seen=False, flow_steps=range(1, steps + 1))
    drawn = _searched(search, case)
    assert _chosen(drawn, case) == case["expected"]["selected_candidate_per_eval_image"]
    decodes = _check(case, painter, drawn, script.asked)
    # The released code decodes every step of every candidate, and then again what it looks at.
    assert case["expected"]["n_vq_decodes"] == decodes + num * steps * case["eval_num"]


@_numbered(CASES["parm"])
def test_the_rule_alone(case):
    """The last canvas's candidates, look by look."""
    num, script, expected = case["search_num"], case["script"], case["expected"]
    first = num * (case["eval_num"] - 1)
    candidates = [Assessment() for _ in range(num)]
    for k, candidate in enumerate(candidates):
        for clarity, (token, prob) in zip(script["clarity"][first + k], script["potential"][first + k], strict=True):
            if not candidate.is_clear:
                candidate.hear_clarity(Opinion(said=_said(clarity)))
                if candidate.is_clear:
                    candidate.hear_potential(Opinion(said=_said(token), p_no=prob))
    assert [each.has_potential for each in candidates] == expected["potential_list_last_eval"]
    assert [each.no_prob for each in candidates] == pytest.approx(expected["no_prob_list_last_eval"], abs=1e-6)
    outcomes = {k: script["orm"][first + k] for k, each in enumerate(candidates) if each.has_potential}
    values = {k: worth(Opinion(said=_said(token), p_yes=prob)) for k, (token, prob) in outcomes.items()}
    assert choose(dict(enumerate(candidates)), values) == expected["selected_candidate_per_eval_image"][-1]


@_numbered(CASES["orm"])
def test_best_of_n_by_the_outcome(case):
    painter, script = ToyPainter(case["timesteps"]), Script(case)
    num, steps = case["search_num"], case["timesteps"]
    drawn = _searched(BestOfN(painter, num, Outcome(script)), case)
    assert _chosen(drawn, case) == case["expected"]["selected_candidate_per_eval_image"]
    decodes = _check(case, painter, drawn, script.asked)
    assert case["expected"]["n_vq_decodes"] == decodes * steps  # theirs, every step of every candidate


@_numbered(CASES["baseline"])
def test_the_baseline_asks_nobody(case):
    painter, expected = ToyPainter(case["timesteps"]), case["expected"]
    drawn = _searched(painter, case)
    bill = total(each.cost for each in drawn)
    assert (bill.steps, bill.questions) == (expected["n_forward_passes"], 0) and not expected["judge_calls"]
    assert len(drawn) == len(expected["selected_candidate_per_eval_image"])
    assert expected["n_vq_decodes"] == bill.decodes * case["timesteps"]


@_numbered(CASES["selector_units"])
def test_one_answer(case):
    """The same token is sampled for every question."""
    said = _said(case["sampled_first_token"])
    opinion = Opinion(said=said, p_yes=case["p_yes"], p_no=case["p_no"])
    yes, value = case["orm"]
    assert (said is True) == yes and worth(opinion) == pytest.approx(value, abs=1e-6)
    for is_clear in (False, True):
        potential, no_prob, clear = case[f"parm(clear={is_clear})"]
        candidate = Assessment(is_clear=is_clear)
        if not is_clear:
            candidate.hear_clarity(opinion)
        if candidate.is_clear:
            candidate.hear_potential(opinion)
        assert (candidate.has_potential, candidate.is_clear) == (potential, clear)
        assert candidate.no_prob == pytest.approx(no_prob, abs=1e-6)
