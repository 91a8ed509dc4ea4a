"""Every way in which a server can fail is a status: nothing raised, lost, mixed up, or scored 0."""

import socket
import time

import numpy as np
import pytest
from asked import asked
from truthful import FAULTS, MODEL

from strokes.rewards.judge import JudgeClient, JudgeUnavailable

ONCE = {
    "429": "ok",
    "retry-after": "ok",
    "500": "ok",
    "hang": "ok",
    "bad-json": "ok",
    "bad-choice": "ok",
    "length": "ok",
    "content-filter": "filtered",
    "refusal": "refused",
    "no-choices": "ok",
    "html": "ok",
    "unsupported": "ok",
}
ALWAYS = {
    "429": ("transport", "Rate limit"),
    "retry-after": ("transport", "Rate limit"),
    "500": ("transport", "500"),
    "hang": ("timeout", "did not answer in time"),
    "bad-json": ("unparsable", "no JSON object"),
    "bad-choice": ("unparsable", "not one of the codes"),
    "length": ("unparsable", "cut"),
    "content-filter": ("filtered", "filter"),
    "refusal": ("refused", "I cannot help"),
    "no-choices": ("transport", "no choices"),
    "html": ("transport", "a web page"),
    "unsupported": ("transport", "400"),
}
PATIENCE = {"hang": 0.3}
"""Seconds to wait for a reply: enough for a busy machine to send the request."""


def test_every_fault_is_covered():
    assert set(ONCE) == set(ALWAYS) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes(server, judge, fault):
    (request, *_), (truth, *_) = asked(2)
    server.script, server.hang = [fault], 5.0
    (verdict,) = judge(timeout_s=PATIENCE.get(fault, 5.0)).ask([request])
    assert verdict.status == ONCE[fault]
    assert (verdict.data or {}).get("choice") == (truth if verdict.status == "ok" else None)
    assert verdict.attempts == server.counts["all"] == (1 if fault in ("content-filter", "refusal") else 2)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays(server, judge, tmp_path, fault):
    (request, *_), _ = asked(2)
    server.faults, server.kinds, server.hang = 1.0, (fault,), 5.0
    client = judge(timeout_s=PATIENCE.get(fault, 5.0), retries=2, cache=str(tmp_path / "verdicts"))
    (verdict,) = client.ask([request])
    assert (verdict.status, verdict.data) == (ALWAYS[fault][0], None) and ALWAYS[fault][1] in verdict.error
    assert verdict.attempts == server.counts["all"] == (1 if fault in ("content-filter", "refusal") else 3)
    assert client.usage.failures == {ALWAYS[fault][0]: 1}
    server.faults = 0.0
    assert client.ask([request])[0].status == "ok"  # a failure is not kept


def test_a_fifth_of_all_requests_fails(server, judge, tmp_path):
    requests, truth = asked(200)
    server.faults, server.hang = 0.2, 3.0
    client = judge(timeout_s=0.3, cache=str(tmp_path / "verdicts"))
    verdicts = client.ask(requests)
    assert all(server.counts[fault] for fault in FAULTS if fault != "unsupported")
    for verdict, right in zip(verdicts, truth, strict=True):
        if verdict.status == "ok":
            assert verdict.data["choice"] == right
        else:
            assert verdict.data is None and verdict.status in ("refused", "filtered", "unparsable")
    lost = [k for k, verdict in enumerate(verdicts) if verdict.status != "ok"]
    assert 0 < len(lost) < 30 and sum(client.usage.failures.values()) == len(lost)
    server.faults, calls = 0.0, server.counts["all"]
    assert [verdict.data["choice"] for verdict in client.ask(requests)] == truth
    assert server.counts["all"] - calls == len(lost)


@pytest.mark.parametrize("refused", [("json_schema",), ("json_schema", "json_object")])
def test_the_form_of_replies_is_learnt_once(server, judge, refused):
    requests, truth = asked(20)
    server.refused = refused
    client = judge(concurrency={"min": 1, "start": 1, "max": 1})
    assert [verdict.data["choice"] for verdict in client.ask(requests)] == truth
    assert server.counts["unsupported"] == len(refused) and server.counts["answered"] == 20
    form = server.bodies[-1].get("response_format", {"type": "text"})["type"]
    assert form == ("json_object" if len(refused) == 1 else "text")


def test_a_request_that_is_bad_in_every_form_teaches_nothing(server, judge):
    (good, *_), _ = asked(2)
    (bad,) = [type(good)(question=type(good.question)(name="?", instructions="", choices=("a", "b")))]
    client = judge()
    assert client.ask([bad])[0].status == "transport"
    client.ask([good])
    assert server.bodies[-1]["response_format"]["type"] == "json_schema"


def test_a_form_can_be_insisted_on(server, judge):
    (request, *_), _ = asked(2)
    server.refused = ("json_schema",)
    (verdict,) = judge(modality="json_schema").ask([request])
    assert verdict.status == "transport" and server.counts["all"] == 1
    assert judge(modality="text").ask([request])[0].status == "ok"
    assert "response_format" not in server.bodies[-1]


def test_the_deadline_holds_for_all_attempts_together(server, judge):
    (request, *_), _ = asked(2)
    server.faults, server.kinds, server.hang = 1.0, ("hang",), 5.0
    start = time.monotonic()
    (verdict,) = judge(timeout_s=0.2, deadline_s=0.5, retries=50).ask([request])
    assert verdict.status == "timeout" and time.monotonic() - start < 1.5


def test_waiting_in_line_does_not_count(server, judge):
    requests, _ = asked(8)
    server.delay = 0.1
    client = judge(deadline_s=0.4, concurrency={"min": 1, "start": 1, "max": 1})
    assert [verdict.status for verdict in client.ask(requests)] == ["ok"] * 8


def test_a_wait_beyond_the_deadline_is_not_waited_for(server, judge, monkeypatch):
    (request, *_), _ = asked(2)
    monkeypatch.setattr("truthful.WAIT_MS", 120_000)
    server.faults, server.kinds = 1.0, ("retry-after",)
    start = time.monotonic()
    (verdict,) = judge(deadline_s=20.0).ask([request])
    assert verdict.status == "transport" and verdict.attempts == 1 and time.monotonic() - start < 5


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_server_that_is_down(judge):
    requests, _ = asked(6)
    url = f"http://127.0.0.1:{closed_port()}/v1"
    verdicts = judge(base_url=url, retries=1, max_failures=7).ask(requests)
    assert {verdict.status for verdict in verdicts} == {"transport"} and "out of reach" in verdicts[0].error
    with pytest.raises(JudgeUnavailable, match=r"6 failures in a row.*out of reach"):
        judge(base_url=url, retries=1, max_failures=6).ask(requests)


def test_failures_with_answers_between_them_do_not_stop_it(server, judge):
    requests, _ = asked(12)
    server.script = ["500", ""] * 6
    client = judge(retries=0, max_failures=2, concurrency={"min": 1, "start": 1, "max": 1})
    assert [verdict.status for verdict in client.ask(requests)] == ["transport", "ok"] * 6


def test_a_wrong_model(judge):
    with pytest.raises(JudgeUnavailable, match=r"judge\.model.*'nobody'"):
        judge(model="nobody").ask(asked(2)[0])


def test_a_wrong_key(judge, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "wrong")
    with pytest.raises(JudgeUnavailable, match=r"\$JUDGE_KEY") as caught:
        judge(api_key_env="JUDGE_KEY").ask(asked(2)[0])
    assert isinstance(caught.value, OSError)


def test_after_being_unavailable_it_can_be_asked_again(server, judge):
    requests, truth = asked(6)
    server.faults, server.kinds = 1.0, ("500",)
    client = judge(retries=0, max_failures=3)
    with pytest.raises(JudgeUnavailable):
        client.ask(requests)
    server.faults = 0.0
    assert [verdict.data["choice"] for verdict in client.ask(requests)] == truth


def test_a_second_attempt_at_reading_is_another_request(server, judge):
    (request, *_), _ = asked(2)
    server.script = ["bad-json", "length"]
    assert judge().ask([request])[0].status == "ok"
    first, second, third = server.bodies
    texts = [body["messages"][1]["content"][-1]["text"] for body in server.bodies]
    assert "could not be read" not in texts[0] and "no JSON object" in texts[1] and "cut" in texts[2]
    assert first["max_tokens"] == second["max_tokens"] == third["max_tokens"] // 2
    assert first["seed"] != second["seed"]


def test_what_is_sent_is_what_the_settings_say(server, judge):
    (request, *_), _ = asked(2)
    settings = {
        "max_tokens_name": "max_completion_tokens",
        "temperature": None,
        "seed": None,
        "extra_body": {"top_k": 1},
    }
    judge(**settings).ask([request])
    body = server.bodies[-1]
    assert body["max_completion_tokens"] == 512 and body["top_k"] == 1 and body["model"] == MODEL
    assert not {"temperature", "seed", "max_tokens"} & set(body)
    judge().ask([request])
    assert server.bodies[-1]["temperature"] == 0 == server.bodies[-1]["seed"]


def test_large_pictures_are_sent_too(server, judge):
    (request, *_), _ = asked(2)
    image = np.kron(request.images[0], np.ones((8, 8, 1), np.uint8))
    large = type(request)(question=request.question, fields=request.fields, images=(image,))
    assert judge().ask([large])[0].status == "ok"


def test_an_interrupted_caller_takes_its_requests_along(server):
    with JudgeClient(server.settings()) as client:
        client.ask(asked(2)[0])
        server.faults, server.kinds, server.hang = 1.0, ("hang",), 2.0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("concurrent.futures.Future.result", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                client.ask(asked(4)[0])
        server.faults = 0.0
        assert {verdict.status for verdict in client.ask(asked(4)[0])} == {"ok"}


def _interrupted(self: object, timeout: float | None = None) -> None:
    raise KeyboardInterrupt
