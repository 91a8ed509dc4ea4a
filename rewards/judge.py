"""JudgeClient: questions about pictures, put to a model behind any OpenAI-compatible server.

What fails is a status, never a score of 0: a judge that timed out has said nothing about the picture. Answers are kept
by what was asked (``judge_key``), like questions are asked once, order is kept, cost is watched, and a run can be
recorded and scored again without a server. How a question is guarded against what it is about: ``judge_prompt`` and
``judge_reply``.
"""

import functools
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from ..envs.protocols import Said
from .judge_calls import Calls
from .judge_cost import Usage
from .judge_desk import Desk, Job, again
from .judge_key import Keys, vote_key
from .judge_prompt import check_images, said_text
from .judge_settings import Concurrency, JudgeSettings, Price
from .judge_transport import JudgeUnavailable
from .judge_votes import combined
from .question import Request, Verdict


class JudgeClient:
    """A judge, and a partner in conversation; a ``Judge`` and a ``Chat``.

    It may be called from any thread, under a running event loop, after a fork, in another process: it keeps an event
    loop of its own per process, and takes only its settings along when it is pickled. A copy is the client itself.

    Args:
        settings: Which model, where, and how it is asked.

    Raises:
        ValueError: There is no key for OpenAI's server.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        if settings.replay is None:
            settings.key()
        self.settings = settings
        self._keys = Keys(settings)
        self._desks: dict[int, Desk] = {}
        self._locks: dict[int, threading.Lock] = {}

    def ask(self, requests: Sequence[Request]) -> list[Verdict]:
        """One verdict for each request, in order.

        Raises:
            ValueError: A request that cannot be sent: an image that is none, a field that JSON cannot hold.
            JudgeUnavailable: The server knows neither model nor key, or cannot be reached any more.
        """
        jobs: dict[bytes, Job] = {}
        plans = [self._plan(index, request, jobs) for index, request in enumerate(requests)]
        desk = self._desk()
        found = desk.answer(jobs)
        given: set[bytes] = set()
        verdicts = []
        for request, (firsts, seconds) in zip(requests, plans, strict=True):
            verdict = combined(request.question, [found[key] for key in firsts], [found[key] for key in seconds])
            verdicts.append(again(verdict) if firsts[0] in given else verdict)
            given.add(firsts[0])
        desk.ledger.add(verdicts)
        return verdicts

    def chat(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[Said | None]:
        """The assistant's next message of each conversation; ``None`` where none could be had.

        Raises:
            JudgeUnavailable: As in ``ask``.
        """
        keys = [self._keys.chat(messages) for messages in conversations]
        jobs = {
            key: Job("chat", functools.partial(Calls.converse, messages=messages), _as_text)
            for key, messages in zip(keys, conversations, strict=True)
        }
        desk = self._desk()
        found = desk.answer(jobs)
        firsts = {key: k for k, key in reversed(list(enumerate(keys)))}
        verdicts = [found[key] if firsts[key] == k else again(found[key]) for k, key in enumerate(keys)]
        desk.ledger.add(verdicts)
        return [_said(verdict) for verdict in verdicts]

    @property
    def usage(self) -> Usage:
        """What was asked and spent in this process."""
        return self._desk().ledger.usage()

    def close(self) -> None:
        """Give up connections and files; a client that is asked again opens them again."""
        if (desk := self._desks.get(os.getpid())) is not None:
            desk.close()

    def __enter__(self) -> "JudgeClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _plan(
        self, index: int, request: Request, jobs: dict[bytes, Job]
    ) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Keys of the votes on a request, at first and at second look; what is new among them becomes a job."""
        question = request.question
        check_images(request.images, index)
        text = said_text(request)
        key = self._keys.request(question, text, request.images)
        looks = (False, True) if self.settings.second_look and request.images and question.choices else (False,)
        keys = []
        for is_second in looks:
            keys.append(tuple(vote_key(key, vote, is_second) for vote in range(self.settings.votes)))
            for vote, one in enumerate(keys[-1]):
                if one not in jobs:
                    ask = functools.partial(Calls.judge, request=request, text=text, vote=vote, is_second=is_second)
                    jobs[one] = Job(question.name, ask, question.read)
        return keys[0], keys[1] if len(keys) > 1 else ()

    def _desk(self) -> Desk:
        """What this process has; a child that was forked gets its own."""
        pid = os.getpid()
        with self._locks.setdefault(pid, threading.Lock()):  # one per process: a fork may find another one held
            if pid not in self._desks:
                self._desks[pid] = Desk(self.settings)
            return self._desks[pid]

    def __reduce__(self) -> tuple[Any, ...]:
        return JudgeClient, (self.settings,)

    def __copy__(self) -> "JudgeClient":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "JudgeClient":
        return self


def _as_text(raw: str) -> Mapping[str, Any]:
    return {"text": raw}


def _said(verdict: Verdict) -> Said | None:
    if verdict.status != "ok" or verdict.data is None:
        return None
    return Said(verdict.data["text"], verdict.prompt_tokens, verdict.completion_tokens, verdict.attempts)


__all__ = ["Concurrency", "JudgeClient", "JudgeSettings", "JudgeUnavailable", "Price", "Usage"]
