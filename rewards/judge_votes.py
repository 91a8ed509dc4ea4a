"""Votes: several verdicts on one request as one.

The majority of the votes counts, the worse choice where they tie. Of two looks at the same picture the worse choice
counts: what only the full resolution shows, such as small writing, may not lift it. A look that failed leaves no
verdict: it may not be skipped by making it fail.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median_low
from typing import Any

from .question import Question, Verdict


def combined(question: Question, firsts: Sequence[Verdict], seconds: Sequence[Verdict]) -> Verdict:
    """The verdict of all votes; ``seconds`` are those of the second look, or none."""
    if len(firsts) == 1 and not seconds:
        return firsts[0]
    looks = [_of_votes(question, votes) for votes in (firsts, seconds) if votes]
    failed = next((look for look in looks if look.status != "ok"), None)
    if failed is None:
        worst = max(looks, key=lambda look: question.choices.index(_data(look)["choice"])) if seconds else looks[0]
        worst = replace(worst, agreement=min(look.agreement for look in looks))
    every = [*firsts, *seconds]
    costs = [verdict.cost for verdict in every]
    return replace(
        worst if failed is None else failed,
        prompt_tokens=sum(verdict.prompt_tokens for verdict in every),
        completion_tokens=sum(verdict.completion_tokens for verdict in every),
        cost=None if None in costs else sum(cost for cost in costs if cost is not None),
        attempts=sum(verdict.attempts for verdict in every),
        is_cached=all(verdict.is_cached for verdict in every),
        seconds=max(verdict.seconds for verdict in every),
    )


def _of_votes(question: Question, votes: Sequence[Verdict]) -> Verdict:
    """The majority, or the first failure where more than half of the votes failed."""
    valid = [vote for vote in votes if vote.status == "ok"]
    if 2 * len(valid) <= len(votes):
        return next(vote for vote in votes if vote.status != "ok")
    if question.choices:
        counts = Counter(_data(vote)["choice"] for vote in valid)
        most = max(question.choices, key=lambda choice: (counts[choice], question.choices.index(choice)))
        chosen = next(vote for vote in valid if _data(vote)["choice"] == most)
        return replace(chosen, agreement=counts[most] / len(valid))
    data = {name: _middle([_data(vote)[name] for vote in valid if name in _data(vote)]) for name in _data(valid[0])}
    alike = sum(_data(vote) == data for vote in valid)
    return replace(valid[0], data=data, agreement=alike / len(valid))


def _middle(values: Sequence[Any]) -> Any:
    """The median of numbers, the most frequent of anything else."""
    if all(isinstance(value, int | float) for value in values):
        return median_low(values)
    return max(values, key=values.count)


def _data(verdict: Verdict) -> Mapping[str, Any]:
    assert verdict.data is not None
    return verdict.data
