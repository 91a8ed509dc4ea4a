"""Files of verdicts under the hands of many threads and processes."""

import gc
import json
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from asked import asked

from strokes.rewards.judge_cache import Cache
from strokes.rewards.judge_desk import Desk


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT COUNT(*) FROM verdicts").fetchone()[0]


@pytest.fixture
def slow_disk(monkeypatch):
    put = Cache.put

    def slow(self, answers):
        time.sleep(0.05)
        put(self, answers)

    monkeypatch.setattr(Cache, "put", slow)


def test_an_answer_is_written_before_it_is_returned(server, judge, tmp_path, slow_disk):
    requests, _ = asked(20)
    client = judge(cache=str(tmp_path / "c"), record=str(tmp_path / "r"))
    for k in range(20):
        client.ask(requests[k : k + 1])
        assert rows(tmp_path / "c") == k + 1 == len((tmp_path / "r").read_text().splitlines())
        client.ask(requests[k : k + 1])
        assert server.counts["all"] == k + 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_make_a_cache_together(tmp_path):
    for k in range(4):
        children, start = [], time.time() + 0.1
        for _ in range(12):
            children.append(os.fork())
            if not children[-1]:
                while time.time() < start:
                    pass
                try:
                    Cache(str(tmp_path / f"{k}"))
                except BaseException:
                    os._exit(1)
                os._exit(0)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 12


def test_a_file_that_another_process_just_makes_is_waited_for(tmp_path, monkeypatch):
    """Turning to write-ahead mode does not wait for other processes by itself."""
    locked = ["database is locked", "database is locked", "database table is locked"]

    class Shy(sqlite3.Connection):
        def execute(self, sql, *arguments):
            if "journal_mode" in sql and locked:
                raise sqlite3.OperationalError(locked.pop())
            return super().execute(sql, *arguments)

    connect = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", lambda *arguments, **named: connect(*arguments, factory=Shy, **named))
    Cache(str(tmp_path / "c")).close()
    assert not locked


def test_a_file_that_is_held_too_long_is_not_to_be_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr("strokes.rewards.judge_cache._BUSY_S", 0.1)
    path = tmp_path / "c"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ValueError, match="locked") as caught:
            Cache(str(path))
    assert "judge.cache" in str(caught.value) and "delete" not in str(caught.value)


def test_a_cache_that_is_only_read_is_not_made(server, judge, tmp_path):
    requests, truth = asked(4)
    client = judge(cache=str(tmp_path / "deep" / "c"), cache_mode="read_only")
    assert [verdict.data["choice"] for verdict in client.ask(requests)] == truth
    assert not (tmp_path / "deep").exists()


def test_closing_leaves_neither_threads_nor_files(judge, tmp_path):
    (requests, truth), before = asked(2), set(threading.enumerate())
    client = judge(cache=str(tmp_path / "c"), record=str(tmp_path / "r"))
    client.ask(requests)
    gc.disable()  # only what is closed counts, not what is collected
    try:
        client.close()
        open_files = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_open(name)]
    finally:
        gc.enable()
    assert not [path for path in open_files if str(tmp_path) in path]
    assert not [one for one in threading.enumerate() if one not in before and one.name.startswith("judge")]
    client.close()
    again = client.ask(requests)
    assert [verdict.data["choice"] for verdict in again] == truth and all(verdict.is_cached for verdict in again)


def _is_open(name: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{name}")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a connection that is cancelled
def test_closing_while_others_ask(server, judge, tmp_path, slow_disk):
    """Asking goes on in files of its own, or ends with what was under way."""
    requests, failed = asked(40)[0], []
    client = judge(cache=str(tmp_path / "c"))

    def ask(part: int) -> None:
        for k in range(part, 40, 4):
            try:
                client.ask(requests[k : k + 1])
            except BaseException as error:
                failed.append(type(error).__name__)

    threads = [threading.Thread(target=ask, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        time.sleep(0.05)
        client.close()
    for thread in threads:
        thread.join()
    assert set(failed) <= {"CancelledError"}
    assert {verdict.status for verdict in client.ask(requests)} == {"ok"}


def test_threads_that_begin_together_share_one_desk(server, judge, monkeypatch):
    made, init = [], Desk.__init__

    def slow(self, *settings):
        made.append(self)
        time.sleep(0.05)
        init(self, *settings)

    monkeypatch.setattr(Desk, "__init__", slow)
    client, (requests, _) = judge(), asked(6)
    threads = [threading.Thread(target=client.ask, args=(requests[k : k + 1],)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and client.usage.requests == 6


def test_a_failure_takes_no_answers_place(server, judge, tmp_path):
    requests, _ = asked(2)
    path = str(tmp_path / "r")
    first, second = judge(record=path), judge(record=path)
    assert not first.usage.calls + second.usage.calls
    for client in (first, second):
        client.ask(requests[1:])  # both have read the file
    first.ask(requests[:1])
    server.script = ["refusal"]
    second.ask(requests[:1])
    kept = [json.loads(line)["status"] for line in Path(path).read_text().splitlines()]
    assert kept.count("refused") == 1
    assert judge(replay=path).ask(requests[:1])[0].status == "ok"


def test_a_replay_says_where_its_recording_was_made(server, judge, tmp_path):
    requests, truth = asked(2)
    path = str(tmp_path / "r")
    judge(record=path, base_url=server.url.replace("://", "://me:pass@")).ask(requests)
    (verdict,) = judge(replay=path, base_url="http://other:1/v1").ask(requests[:1])
    assert verdict.status == "transport" and server.url in verdict.error and "http://other:1/v1" in verdict.error
    assert "pass" not in Path(path).read_text()
    moved = judge(replay=path, base_url="http://127.0.0.1:1/v1").ask(requests)  # the same host: a restarted server
    assert [verdict.data["choice"] for verdict in moved] == truth
