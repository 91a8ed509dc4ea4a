"""Tasks are shared out, brought back in order, and done again where a worker was lost. No Ray here."""

import threading
import time
from collections import Counter, deque

import pytest

from strokes.agents.dispatch import Dispatcher, Gone, Lost, Setup, Task


class Fake:
    """Workers that are objects, in this process; answers come when the dispatcher next looks.

    ``fate`` says of each call, in order, what happens instead of an answer: an exception, or nothing.
    """

    def __init__(self, make_worker, num_workers, fate=(), probes=()):
        self.make_worker, self.num_workers = make_worker, num_workers
        self.fate, self.probes = deque(fate), deque(probes)
        self.workers, self.keys, self.answers = {}, {}, {}
        self.calls, self.shared, self.is_closed = [], [], False
        self.gate = threading.Event()
        self.gate.set()

    def start(self):
        return list(range(self.num_workers))

    def share(self, value):
        self.shared.append(value)
        return len(self.shared) - 1

    def _answer(self, value):
        ref = ("ref", len(self.answers))
        self.answers[ref] = value
        return ref

    def _revive(self, worker):
        if worker not in self.workers:
            self.workers[worker], self.keys[worker] = self.make_worker(), None

    def probe(self, worker):
        fate = self.probes.popleft() if self.probes else None
        if fate is not None:
            return self._answer(fate)
        try:
            self._revive(worker)
        except Exception as error:
            return self._answer(error)
        return self._answer(None)

    def call(self, worker, task):
        fate = self.fate.popleft() if self.fate else None
        self.calls.append((worker, task))
        if fate is not None:
            del self.workers[worker]
            return self._answer(fate)
        self._revive(worker)
        try:
            if task.setup is not None and self.keys[worker] != task.setup.key:
                getattr(self.workers[worker], task.setup.method)(self.shared[task.setup.shared])
                self.keys[worker] = task.setup.key
            return self._answer(getattr(self.workers[worker], task.method)(*task.args))
        except Exception as error:
            return self._answer(error)

    def wait(self, refs, timeout):
        if not self.gate.wait(timeout):
            return []
        return refs[:1]

    def result(self, ref):
        answer = self.answers[ref]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.is_closed = True


class Multiplier:
    """Multiplies by what it was last told."""

    def __init__(self):
        self.factor = None

    def tell(self, factor):
        self.factor = factor

    def times(self, number):
        if self.factor is None:
            raise RuntimeError("Expected to be told a factor, got none.")
        return number * self.factor

    def fail(self):
        raise KeyError("mine")


def tasks(dispatcher, numbers, factor):
    setup = Setup(factor, "tell", dispatcher.share(factor))
    return [Task("times", (number,), setup) for number in numbers]


@pytest.fixture
def pool():
    """Makes dispatchers on fake workers, and closes them."""
    made = []

    def make(num_workers=2, make_worker=Multiplier, fate=(), probes=(), **options):
        backend = Fake(make_worker, num_workers, fate, probes)
        dispatcher = Dispatcher(backend, pause=0.01, **options)
        made.append(dispatcher)
        return dispatcher, backend

    yield make
    for dispatcher in made:
        dispatcher.close()


def test_results_come_in_the_order_of_tasks_and_the_work_is_shared(pool):
    dispatcher, backend = pool()
    assert dispatcher.wait(dispatcher.submit(tasks(dispatcher, range(20), 3))) == [3 * k for k in range(20)]
    assert set(Counter(worker for worker, _ in backend.calls)) == {0, 1}
    assert dispatcher.stats == {"retries": 0, "workers": 2}


def test_no_tasks_are_done_at_once(pool):
    dispatcher, _ = pool()
    assert dispatcher.wait(dispatcher.submit([])) == []


def test_several_versions_may_be_on_their_way(pool):
    dispatcher, backend = pool(1)
    backend.gate.clear()
    tickets = [dispatcher.submit(tasks(dispatcher, range(3), factor)) for factor in (2, 5)]
    backend.gate.set()
    assert [dispatcher.wait(ticket) for ticket in reversed(tickets)] == [[0, 5, 10], [0, 2, 4]]


@pytest.mark.parametrize("lost", [Lost("killed"), Gone("killed")])
def test_what_a_lost_worker_held_is_done_again_with_what_it_had_been_told(pool, lost):
    dispatcher, backend = pool(fate=[None, None, lost])
    assert dispatcher.wait(dispatcher.submit(tasks(dispatcher, range(6), 7))) == [7 * k for k in range(6)]
    assert dispatcher.stats["retries"] == 1 and len(backend.calls) == 7


def test_a_task_is_redone_with_its_own_version_after_a_newer_one(pool):
    dispatcher, _ = pool(1, fate=[None, Lost("killed")])
    early, late = (dispatcher.submit(tasks(dispatcher, range(2), factor)) for factor in (2, 5))
    assert dispatcher.wait(late) == [0, 5] and dispatcher.wait(early) == [0, 2]


def test_the_only_worker_is_waited_for(pool):
    dispatcher, _ = pool(1, fate=[Lost("killed")], probes=[None, Lost("restarting"), Lost("restarting")])
    assert dispatcher.wait(dispatcher.submit(tasks(dispatcher, [1], 7))) == [7]


def test_a_worker_that_is_gone_for_good_leaves_the_others(pool):
    dispatcher, _ = pool(2, fate=[Lost("killed")], probes=[None, None, Gone("no restart")])
    assert dispatcher.wait(dispatcher.submit(tasks(dispatcher, range(5), 2))) == [0, 2, 4, 6, 8]
    assert dispatcher.stats == {"retries": 1, "workers": 1}


def test_a_task_that_kills_its_workers_is_given_up(pool):
    dispatcher, _ = pool(fate=[Lost("killed")] * 3, max_retries=2)
    with pytest.raises(RuntimeError, match="3 workers lost over it"):
        dispatcher.wait(dispatcher.submit(tasks(dispatcher, [1], 2)))
    assert dispatcher.wait(dispatcher.submit(tasks(dispatcher, [1], 2))) == [2]


def test_without_any_worker_everybody_hears_of_it(pool):
    dispatcher, _ = pool(2, probes=[Gone("no node")] * 2)
    with pytest.raises(RuntimeError, match="all are gone for good"):
        dispatcher.wait(dispatcher.submit(tasks(dispatcher, range(3), 2)))
    with pytest.raises(RuntimeError, match="all are gone for good"):
        dispatcher.submit([])


def test_patience_ends(pool):
    dispatcher, _ = pool(2, probes=[Lost("restarting")] * 10_000, patience=0.1)
    with pytest.raises(RuntimeError, match=r"none for 0\.1 seconds"):
        dispatcher.wait(dispatcher.submit(tasks(dispatcher, range(3), 2)))


def test_a_workers_own_error_is_raised_and_not_retried(pool):
    dispatcher, backend = pool()
    with pytest.raises(KeyError, match="mine"):
        dispatcher.wait(dispatcher.submit([Task("fail"), *tasks(dispatcher, range(3), 2)]))
    assert sum(task.method == "fail" for _, task in backend.calls) == 1
    assert dispatcher.wait(dispatcher.submit(tasks(dispatcher, [4], 2))) == [8]


def test_a_worker_that_cannot_be_made_says_why(pool):
    def broken():
        raise ValueError("Expected a checkpoint, got none.")

    dispatcher, _ = pool(make_worker=broken)
    with pytest.raises(ValueError, match="Expected a checkpoint"):
        dispatcher.wait(dispatcher.submit([Task("times", (1,))]))


def test_results_are_passed_on_when_they_are_there(pool):
    first, _ = pool(1, fate=[None, Lost("killed")])
    second, _ = pool()
    passed = {}

    def then(index, result):
        passed[index] = second.submit(tasks(second, [result], 10))

    assert first.wait(first.submit(tasks(first, range(4), 2), then)) == [0, 2, 4, 6]
    assert [second.wait(passed[index]) for index in range(4)] == [[0], [20], [40], [60]]


def test_an_interruption_loses_nothing(pool, monkeypatch):
    dispatcher, backend = pool()
    backend.gate.clear()
    ticket = dispatcher.submit(tasks(dispatcher, range(4), 2))

    def interrupt(*_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(dispatcher._changed, "wait_for", interrupt)
    with pytest.raises(KeyboardInterrupt):
        dispatcher.wait(ticket)
    backend.gate.set()
    assert dispatcher.wait(ticket) == [0, 2, 4, 6]


def test_closing_ends_the_workers_and_whoever_waits(pool):
    dispatcher, backend = pool()
    backend.gate.clear()
    ticket = dispatcher.submit(tasks(dispatcher, range(4), 2))
    threading.Timer(0.1, dispatcher.close).start()
    with pytest.raises(RuntimeError, match="closed"):
        dispatcher.wait(ticket)
    dispatcher.close()
    deadline = time.monotonic() + 5
    while not backend.is_closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert backend.is_closed
