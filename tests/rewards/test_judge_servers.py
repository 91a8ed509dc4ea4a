"""Servers that answer in their own ways, refuse one request, or repeat what is secret."""

import json

import pytest
from asked import asked
from truth import SAYS

from strokes.rewards.judge import JudgeUnavailable
from strokes.rewards.judge_transport import Failed, read_completion
from strokes.rewards.question import Question, Request


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"error": "x"}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": "x"}}], "usage": 3}',
        b"\xff\xfe",
        b'{"choices": [{"message": {"conte',
        b'{"choices": {"0": 1}}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": ["x"]}}]}',
        b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 1e999}}',
        b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": -1}}',
        b'{"choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": 1' + b"0" * 30 + b"}}",
        b"[" * 100_000,
    ],
)
def test_rubbish_is_a_failure_of_the_server(body):
    with pytest.raises(Exception, match="not a completion") as caught:
        read_completion(body)
    assert not isinstance(caught.value, Failed | AttributeError | KeyError)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "x", "refusal": ""}, "x"),
        ({"content": [{"type": "text", "text": "x"}, {"type": "audio"}, {"type": "text", "text": "y"}]}, "xy"),
        ({"content": "bad \ud83d, good \U0001f600"}, "bad ?, good \U0001f600"),
        ({"content": None}, ""),
    ],
)
def test_replies_of_other_servers(message, text):
    reply = read_completion(json.dumps({"choices": [{"message": message}], "model": "m \ud83d"}).encode())
    assert (reply.text, reply.refusal, reply.model) == (text, None, "m ?")


def test_half_a_letter_does_not_cost_a_batch(server, judge, tmp_path, monkeypatch):
    monkeypatch.setitem(SAYS, "odd", lambda fields, images: f"{fields['word']} \ud83d")
    question = Question(name="odd", instructions="", read=worded)
    requests = [Request(question=question, fields={"word": word}) for word in "abc"]
    client = judge(cache=str(tmp_path / "c"), record=str(tmp_path / "r"))
    for _ in range(2):
        assert [verdict.data for verdict in client.ask(requests)] == [{"text": f"{word} ?"} for word in "abc"]
    assert server.counts["all"] == 3
    replayed = judge(replay=str(tmp_path / "r")).ask(requests)
    assert [verdict.data for verdict in replayed] == [{"text": f"{word} ?"} for word in "abc"]


def worded(text: str) -> dict[str, str]:
    return {"text": text}


def test_forbidden_before_anything_was_answered_is_the_keys_fault(server, judge):
    server.faults, server.kinds = 1.0, ("403",)
    with pytest.raises(JudgeUnavailable, match="403"):
        judge().ask(asked(2)[0])


def test_forbidden_of_one_request_is_a_filter(server, judge):
    requests, _ = asked(4)
    server.script = ["", "403"]
    verdicts = judge(concurrency={"min": 1, "start": 1, "max": 1}).ask(requests)
    assert [verdict.status for verdict in verdicts] == ["ok", "filtered", "ok", "ok"]
    server.script = ["moderated"]
    verdicts = judge(concurrency={"min": 1, "start": 1, "max": 1}).ask(requests)
    assert [verdict.status for verdict in verdicts] == ["filtered", "ok", "ok", "ok"]


@pytest.mark.parametrize("script", ["401-echo", "500-echo"])
def test_secrets_are_not_told(server, judge, monkeypatch, tmp_path, script):
    monkeypatch.setenv("JUDGE_KEY", "sk-SECRET123\n")
    server.faults, server.kinds = 1.0, (script,)
    url = server.url.replace("://", "://somebody:passw0rd@")
    client = judge(base_url=url, api_key_env="JUDGE_KEY", record=str(tmp_path / "r"), retries=0)
    try:
        told = client.ask(asked(2)[0][:1])[0].error
    except JudgeUnavailable as error:
        told = str(error)
    told += (tmp_path / "r").read_text() if (tmp_path / "r").exists() else ""
    assert server.url in told and not [word for word in ("SECRET123", "passw0rd") if word in told]


def test_secrets_are_not_told_of_a_server_that_is_down(judge, tmp_path):
    url = "http://somebody:passw0rd@127.0.0.1:1/v1"  # nobody listens
    (verdict,) = judge(base_url=url, record=str(tmp_path / "r"), retries=0).ask(asked(2)[0][:1])
    assert "out of reach" in verdict.error and "passw0rd" not in verdict.error + (tmp_path / "r").read_text()
