"""What is kept of verdicts, and how they are found again."""

import base64
import io
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from asked import QUESTION, asked
from PIL import Image
from truth import SAYS

from strokes.rewards.judge_cache import Kept, Recent
from strokes.rewards.judge_key import Keys, vote_key
from strokes.rewards.judge_prompt import said_text
from strokes.rewards.judge_settings import JudgeSettings
from strokes.rewards.question import Question, Request, Verdict


def key(settings: JudgeSettings | None = None, **changes: object) -> bytes:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    request = replace(Request(question=QUESTION, fields={"prompt": "a"}, images=(image,)), **changes)
    keys = Keys(settings or JudgeSettings(model="m"))
    return keys.request(request.question, said_text(request), request.images)


def read_one(text: str) -> dict[str, str]:
    return {"text": text}


def read_other(text: str) -> dict[str, str]:
    return {"text": text}


def test_a_key_says_everything_that_decides_the_answer(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    usual = JudgeSettings(model="m")
    protocol = Question(name="p", instructions="", read=read_one)
    others = [
        key(fields={"prompt": "b"}),
        key(images=()),
        key(images=(image, image)),
        key(images=(image + 1,)),
        key(images=(image.reshape(2, 8, 3),)),
        *(key(question=replace(QUESTION, **{name: value})) for name, value in CHANGES.items()),
        key(question=protocol),
        key(question=replace(protocol, read=read_other)),
        *(key(replace(usual, **{name: value})) for name, value in ENDPOINTS.items()),
        vote_key(key(), 1, False),
        vote_key(key(), 0, True),
    ]
    assert len({key(), *others}) == len(others) + 1


CHANGES = {
    "name": "x",
    "instructions": "x",
    "choices": ("no", "yes"),
    "notes": (),
    "max_tokens": 9,
}
ADDRESSES = ("http://x:1/v1", "http://x:2/v1", "http://x/v1/", "https://me:secret@x/v1", "http://X/v1")
ENDPOINTS = {
    "model": "x",
    "base_url": "https://api.openai.com/other/v1",
    "temperature": 1.0,
    "seed": 1,
    "extra_body": {"top_k": 1},
}


def test_a_key_says_nothing_else():
    image = np.arange(96, dtype=np.uint8).reshape(4, 8, 3)
    assert key(images=(image[:, ::2],)) == key(images=(image[:, ::2].copy(),))
    usual = JudgeSettings(model="m")
    for change in ({"timeout_s": 1.0}, {"modality": "text"}, {"retries": 0}, {"votes": 3}, {"api_key_env": "X"}):
        assert key(replace(usual, **change)) == key()
    assert vote_key(key(), 0, False) == key()
    own = [key(replace(usual, base_url=url)) for url in ADDRESSES]
    assert own == [own[0]] * len(own) != [key()] * len(own)


def test_pictures_in_conversations_count_by_their_pixels():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)

    def talk(image: np.ndarray, **options: object) -> list[dict[str, object]]:
        file = io.BytesIO()
        Image.fromarray(image).save(file, **options)
        url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]

    keys = Keys(JudgeSettings(model="m"))
    first, *others = [
        keys.chat(talk(pixels, format="PNG", compress_level=0)),
        keys.chat(talk(pixels, format="PNG", compress_level=9)),
        keys.chat(talk(np.dstack([pixels, np.full((4, 4), 255, np.uint8)]), format="PNG")),
        keys.chat(talk(pixels, format="BMP")),
    ]
    assert others == [first] * 3 != [keys.chat(talk(pixels + 1, format="PNG"))] * 3


def test_answers_are_found_by_another_client(server, judge, tmp_path):
    requests, _ = asked(20)
    path = str(tmp_path / "deep" / "verdicts")
    first = judge(cache=path).ask(requests)
    client = judge(cache=path)
    again = client.ask(requests[::-1])[::-1]
    assert [verdict.data for verdict in again] == [verdict.data for verdict in first]
    assert all(verdict.is_cached and verdict.cost == 0 == verdict.attempts for verdict in again)
    assert server.counts["all"] == 20 == client.usage.cached and client.usage.calls == 0


@pytest.mark.parametrize(("mode", "calls"), [("read_write", 2), ("read_only", 4), ("off", 12)])
def test_modes(server, judge, tmp_path, mode, calls):
    requests, _ = asked(6)
    path = str(tmp_path / "verdicts")
    judge(cache=path).ask(requests[:4])
    for _ in range(2):
        judge(cache=path, cache_mode=mode).ask(requests)
    assert server.counts["all"] == 4 + calls


def test_votes_and_looks_are_kept_one_by_one(server, judge, tmp_path):
    requests, truth = asked(4)
    path = str(tmp_path / "verdicts")
    judge(cache=path).ask(requests)
    client = judge(cache=path, votes=3, second_look=True)
    assert [verdict.data["choice"] for verdict in client.ask(requests)] == truth
    assert server.counts["all"] == 4 * 6 and client.usage.calls == 4 * 5


def test_protocol_replies_are_read_anew(server, judge, monkeypatch, tmp_path):
    monkeypatch.setitem(SAYS, "count", lambda fields, images: "one two")
    path = str(tmp_path / "verdicts")
    request = Request(question=Question(name="count", instructions="", read=counted))
    assert judge(cache=path).ask([request])[0].data == {"words": 2}
    monkeypatch.setattr(f"{__name__}.TIMES", 10)
    assert judge(cache=path).ask([request])[0].data == {"words": 20}
    monkeypatch.setattr(f"{__name__}.TIMES", None)
    assert judge(cache=path, content_retries=0).ask([request])[0].status == "unparsable"


TIMES: int | None = 1


def counted(text: str) -> dict[str, int] | None:
    return None if TIMES is None else {"words": TIMES * len(text.split())}


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be taken for one" * 20, "table"])
def test_what_is_no_cache_is_named(judge, tmp_path, content):
    path = tmp_path / "verdicts"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE verdicts (a, b)")
    with pytest.raises(ValueError, match=r"judge\.cache"):
        judge(cache=str(path)).ask(asked(2)[0])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_share_the_files(judge, tmp_path):
    requests, truth = asked(40)
    client = judge(cache=str(tmp_path / "verdicts"), record=str(tmp_path / "record.jsonl"))
    children = []
    for _ in range(3):
        children.append(os.fork())
        if not children[-1]:
            os._exit(0 if [verdict.data["choice"] for verdict in client.ask(requests)] == truth else 1)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    with closing(sqlite3.connect(tmp_path / "verdicts")) as db:
        assert db.execute("SELECT COUNT(*) FROM verdicts").fetchone() == (40,)
    lines = (tmp_path / "record.jsonl").read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == 40


def test_a_run_is_scored_again_without_a_server(server, judge, tmp_path, monkeypatch):
    requests, truth = asked(20)
    record = tmp_path / "runs" / "record.jsonl"
    server.script = ["refusal"]
    monkeypatch.setenv("JUDGE_KEY", "secret-key")
    settings = {"votes": 2, "second_look": True, "concurrency": {"min": 1, "start": 1, "max": 1}}
    first = judge(record=str(record), cache=str(tmp_path / "c"), api_key_env="JUDGE_KEY", **settings).ask(requests)
    assert [verdict.status for verdict in first] == ["refused"] + ["ok"] * 19
    judge(record=str(record), cache=str(tmp_path / "c"), **settings)
    monkeypatch.delenv("JUDGE_KEY")
    calls = server.counts["all"]
    again = judge(replay=str(record), api_key_env="JUDGE_KEY", **settings).ask(requests)
    assert [(verdict.status, verdict.data) for verdict in again] == [(v.status, v.data) for v in first]
    assert [v.data["choice"] for v in again[1:]] == truth[1:]
    (missing,) = judge(replay=str(record)).ask([replace(requests[0], fields={"prompt": "another"})])
    assert missing.status == "transport" and "not in the recording" in missing.error
    assert server.counts["all"] == calls
    text = record.read_text()
    assert not {"secret-key", "Bearer", "base64", "header"} & set(text.replace('"', " ").split())


def test_a_recording_is_whole_though_answers_come_from_the_cache(judge, tmp_path):
    requests, _ = asked(6)
    judge(cache=str(tmp_path / "c")).ask(requests)
    client = judge(cache=str(tmp_path / "c"), record=str(tmp_path / "r"))
    client.ask(requests)
    client.ask(requests)
    assert len((tmp_path / "r").read_text().splitlines()) == 6
    assert {verdict.status for verdict in judge(replay=str(tmp_path / "r")).ask(requests)} == {"ok"}


def test_a_recording_that_was_cut_goes_on(judge, tmp_path):
    requests, truth = asked(6)
    path = tmp_path / "r"
    judge(record=str(path)).ask(requests)
    path.write_bytes(path.read_bytes()[:-20])
    assert [verdict.status for verdict in judge(replay=str(path)).ask(requests)].count("transport") == 1
    judge(record=str(path)).ask(requests)
    assert [verdict.data["choice"] for verdict in judge(replay=str(path)).ask(requests)] == truth


@pytest.mark.parametrize("text", ["hello\n", '{"format": "other", "key": ""}\n', '{"key": 3}\n'])
def test_what_is_no_recording_is_named(judge, tmp_path, text):
    (tmp_path / "r").write_text(text)
    with pytest.raises(ValueError, match="line 1 of"):
        judge(replay=str(tmp_path / "r")).ask([])
    with pytest.raises(ValueError, match="no file"):
        judge(replay=str(tmp_path / "none")).ask([])


def test_what_is_remembered_without_a_file_is_bounded():
    recent = Recent(size=2)
    for k in range(3):
        recent.put([(bytes([k]), "wise_v1", Verdict(status="ok", data={"score": k}, raw=f"Score: {k}"))])
    assert recent.get([b"\0", b"\1", b"\2"]) == {b"\1": Kept(None, "Score: 1"), b"\2": Kept(None, "Score: 2")}
