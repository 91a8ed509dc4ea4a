"""What judging costs, and that it stops in time."""

import asyncio
import warnings
from dataclasses import replace

import numpy as np
import pytest
from asked import asked

from strokes.rewards.judge import Concurrency, JudgeUnavailable, Price
from strokes.rewards.judge_cost import Ledger
from strokes.rewards.judge_limit import Limit

ONE = Concurrency(min=1, start=1, max=1)


def test_prices():
    ledger = Ledger("m", {"m": Price(input=2.0, cached=0.5, output=10.0, image=0.25)})
    assert ledger.cost(read=1_000_000, cached=400_000, written=100_000, images=2) == pytest.approx(
        1.2 + 0.2 + 1.0 + 0.5
    )
    plain = Ledger("m", {"m": Price(input=2.0, output=10.0)})
    assert plain.cost(read=1_000_000, cached=400_000, written=0, images=2) == 2.0
    assert plain.cost(read=1, cached=0, written=1, images=0, is_counted=False) is None


def test_a_model_without_a_price_costs_nobody_knows_what(judge):
    requests, _ = asked(4)
    client = judge(prices={"another": Price(input=1.0, output=1.0)})
    with pytest.warns(RuntimeWarning, match="'truth' has no price") as caught:
        verdicts = client.ask(requests[:2])
    assert len(caught) == 1
    assert {verdict.cost for verdict in verdicts} == {None} and client.usage.cost is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.ask(requests)
    assert client.usage.calls == 4 and client.usage.cached == 2


def test_costs_add_up(judge):
    requests, _ = asked(6)
    client = judge()
    verdicts = client.ask(requests)
    usage = client.usage
    assert usage.cost == pytest.approx((usage.prompt_tokens + 4 * usage.completion_tokens) / 1e6)
    assert usage.cost == pytest.approx(sum(verdict.cost for verdict in verdicts)) and usage.cost > 0


def test_replies_that_could_not_be_read_cost_too(server, judge):
    requests, _ = asked(2)
    server.script = ["bad-json", "bad-json", "bad-json"]
    (verdict,) = judge().ask(requests[:1])
    assert verdict.status == "unparsable" and verdict.cost > 0 and verdict.prompt_tokens > 0


@pytest.mark.parametrize("width", [1, 20])
def test_it_stops_before_the_call_that_could_cost_too_much(server, judge, tmp_path, width):
    requests, truth = asked(60)
    some = {"concurrency": Concurrency(min=1, start=width, max=width), "cache": str(tmp_path / "verdicts")}
    price = judge().ask(requests[:1])[0].cost
    client = judge(max_cost=price * 20, **some)
    verdicts = client.ask(requests)
    statuses = [verdict.status for verdict in verdicts]
    assert set(statuses) == {"ok", "budget"} and 3 <= statuses.count("ok") < 30
    assert 0 < client.usage.cost <= price * 20 and client.usage.failures["budget"] == statuses.count("budget")
    assert server.counts["all"] - 1 == statuses.count("ok")
    assert next(v for v in verdicts if v.status == "budget").attempts == 0
    again = client.ask([request for request, status in zip(requests, statuses, strict=True) if status == "ok"])
    assert all(verdict.is_cached for verdict in again)  # what is known already costs nothing
    rest = judge(**some).ask(requests)
    assert [verdict.data["choice"] for verdict in rest] == truth


def test_a_first_call_that_fails_leaves_the_purse_open(server, judge):
    requests, _ = asked(6)
    server.script = ["refusal", "500", "500"]
    verdicts = judge(max_cost=1.0, retries=0).ask(requests)
    assert [verdict.status for verdict in verdicts].count("ok") == 3


def test_money_for_not_even_one_call(server, judge):
    (verdict,) = judge(max_cost=1e-9).ask(asked(2)[0][:1])
    assert verdict.status == "budget" and verdict.cost == 0 and not server.counts["all"]


def test_waiting_for_the_first_call_does_not_count(server, judge):
    requests, _ = asked(10)
    server.delay = 0.3
    assert {verdict.status for verdict in judge(max_cost=100.0, deadline_s=0.5).ask(requests)} == {"ok"}


def test_a_larger_picture_is_taken_to_cost_more(server, judge):
    small, other = asked(4)[0][1::2]
    large = replace(other, images=(np.kron(other.images[0], np.ones((12, 12, 1), np.uint8)),))
    little, much = (verdict.cost for verdict in judge().ask([small, large]))
    assert much > 2 * little
    client = judge(max_cost=little + 0.9 * much)
    assert [client.ask([one])[0].status for one in (small, large)] == ["ok", "budget"]
    assert client.usage.cost <= little + 0.9 * much
    client = judge(max_cost=200 * much)
    assert {verdict.status for verdict in client.ask([small, large, *asked(40)[0]])} == {"ok"}
    assert client.ask([replace(large, fields={"prompt": "a red circle"})])[0].status == "ok"


def test_calls_count_where_asking_stopped(server, judge):
    requests, _ = asked(30)
    server.script = [""] * 12 + ["500"] * 50
    client = judge(retries=0, max_failures=3, concurrency=ONE, cache_mode="off")
    with pytest.raises(JudgeUnavailable):
        client.ask(requests)
    assert client.usage.calls == server.counts["all"] == 15
    assert client.usage.cost > 0 and client.usage.completion_tokens > 0
    server.script, calls = ["401-echo"], client.usage.calls
    with pytest.raises(JudgeUnavailable):
        client.ask(requests[:1])
    assert client.usage.calls == calls + 1


def widths(limit: Limit, rounds: int) -> list[int]:
    """How wide a limit is after each round of answers that used it to the full."""
    found = []
    for _ in range(rounds):
        limit.running = limit.width
        for _ in range(limit.width):
            limit.answered()
        found.append(limit.width)
    return found


def test_the_limit_widens_narrows_and_keeps_its_bounds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("strokes.rewards.judge_limit.monotonic", lambda: now[0])
    limit = Limit(Concurrency(min=10, start=20, max=100))
    limit.running = 3
    for _ in range(500):
        limit.answered()
    assert limit.width == 20  # not used, so nothing was found out
    assert widths(limit, 3) == [40, 80, 100]
    now[0] = 100.0
    limit.pushed_back()
    limit.pushed_back()
    assert limit.width == 80 and widths(limit, 2) == [84, 88]
    for _ in range(20):
        now[0] += 15
        limit.pushed_back()
    assert limit.width == 10


def test_no_more_run_than_the_limit_allows_and_none_is_forgotten():
    async def run() -> int:
        limit, most, running = Limit(Concurrency(min=1, start=3, max=3)), 0, 0

        async def work(k: int) -> None:
            nonlocal most, running
            async with limit:
                running += 1
                most = max(most, running)
                try:
                    await asyncio.sleep(0.001)
                finally:
                    running -= 1

        tasks = [asyncio.create_task(work(k)) for k in range(30)]
        await asyncio.sleep(0.002)
        for task in tasks[5:25:2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert limit.running == 0
        return most

    assert asyncio.run(asyncio.wait_for(run(), 5)) == 3
