"""Calls: from one question to one verdict, over as many requests as it takes.

A reply that cannot be read is asked for again in other words, and with more room if it was cut: at temperature 0 the
same request would fail the same way. A refusal, or a reply that the server's filter withheld, is an answer of its kind
and final.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np

from .judge_cost import Ledger, Purse
from .judge_prompt import Prompt, guarded_prompt, halved, picture, protocol_prompt
from .judge_reply import Unreadable, read_guarded
from .judge_settings import JudgeSettings
from .judge_transport import Endpoint, Failed, JudgeUnavailable, Reply
from .judge_writing import addresses_judge
from .question import Request, Status, Verdict

INLINE_PIXELS = 256 * 256
"""Images up to this size are encoded at once (1 ms), larger ones beside the event loop."""


@dataclass(slots=True)
class _Bill:
    """What a verdict took so far."""

    started: float | None = None
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    model: str = ""

    def add(self, reply: Reply, cost: float | None) -> None:
        self.attempts += reply.attempts
        self.model = reply.model
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        self.cost = None if self.cost is None or cost is None else self.cost + cost

    def verdict(
        self, status: Status, data: Mapping[str, Any] | None = None, raw: str | None = None, error: str = ""
    ) -> Verdict:
        return Verdict(
            status=status,
            data=data,
            raw=raw,
            error=error,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost=self.cost,
            model=self.model,
            attempts=self.attempts,
            seconds=0.0 if self.started is None else monotonic() - self.started,
        )


class Calls:
    """Everything that is asked of one endpoint; for one event loop."""

    def __init__(self, settings: JudgeSettings, endpoint: Endpoint, ledger: Ledger) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._ledger = ledger
        self._purse = Purse(ledger, settings.max_cost)

    async def judge(self, request: Request, text: str, vote: int, is_second: bool) -> Verdict:
        """One vote on a request; ``text`` is what it says, as it is sent."""
        question, bill = request.question, _Bill()
        images = [halved(image) for image in request.images] if is_second else request.images
        pictures, sizes = await _encode(images), [image.shape[0] * image.shape[1] for image in images]
        room, why = question.max_tokens, ""
        put = guarded_prompt if question.choices else protocol_prompt
        reply: Reply | None = None
        for attempt in range(self._settings.content_retries + 1):
            prompt = put(question, text, pictures, why)
            try:
                reply = await self._send(prompt, room, vote + attempt, sizes, bill)
            except Failed as failure:
                return bill.verdict(failure.status, raw=reply.text if reply else None, error=str(failure))
            status, data, why = _read(request, prompt, reply)
            if status != "unparsable":
                return bill.verdict(status, data, reply.text, why)
            room *= 2 if reply.finish == "length" else 1
        return bill.verdict("unparsable", raw=reply.text if reply else None, error=why)

    async def converse(self, messages: Sequence[Mapping[str, Any]]) -> Verdict:
        """The next message of a conversation, as the verdict's "text"."""
        bill = _Bill()
        try:
            reply = await self._send(Prompt(messages=tuple(messages)), self._settings.chat_tokens, 0, [], bill)
        except Failed as failure:
            return bill.verdict(failure.status, error=str(failure))
        status, why = _outcome(reply)
        if status == "ok" and not reply.text.strip():
            status, why = "unparsable", "the reply is empty"
        return bill.verdict(status, {"text": reply.text} if status == "ok" else None, reply.text, why)

    async def _send(self, prompt: Prompt, room: int, nth: int, sizes: Sequence[int], bill: _Bill) -> Reply:
        """One reply, paid for; ``sizes`` are the pixels of the images.

        Raises:
            Failed: There is none.
        """
        letters = _letters(prompt) if self._settings.max_cost is not None else 0
        grant = await self._purse.reserve(letters=letters, longest=room, images=sizes)
        if grant is None:
            why = f"the call could bring the cost above max_cost={self._settings.max_cost}"
            raise Failed("budget", why, attempts=0)
        if bill.started is None:  # only now: others may have gone ahead alone
            bill.started = monotonic()
        reply, cost = None, None
        seed = None if self._settings.seed is None else self._settings.seed + nth
        try:
            reply = await self._endpoint.complete(
                list(prompt.messages),
                max_tokens=room,
                until=bill.started + self._settings.deadline_s,
                seed=seed,
                schema=prompt.schema,
            )
            cost = self._paid(reply, len(sizes), bill)
        except Failed as failure:
            bill.attempts += failure.attempts
            self._ledger.called(failure.attempts)
            raise
        except JudgeUnavailable:
            self._ledger.called(1)
            raise
        finally:
            self._purse.settle(grant, reply, cost)
        return reply

    def _paid(self, reply: Reply, images: int, bill: _Bill) -> float | None:
        """What a reply cost, entered wherever it counts."""
        read, written = reply.prompt_tokens, reply.completion_tokens
        cost = self._ledger.cost(
            read=read, cached=reply.cached_tokens, written=written, images=images, is_counted=reply.is_counted
        )
        bill.add(reply, cost)
        self._ledger.called(reply.attempts, read=read, written=written, cost=cost)
        return cost


def _read(request: Request, prompt: Prompt, reply: Reply) -> tuple[Status, Mapping[str, Any] | None, str]:
    """Status, data, and why there are none."""
    question = request.question
    if question.read is not None:
        data = question.read(reply.text) if reply.refusal is None else None
        if data is not None:
            return "ok", data, ""
        status, why = _outcome(reply)
        return (
            ("unparsable", None, "the reply is not in the protocol's form") if status == "ok" else (status, None, why)
        )
    status, why = _outcome(reply)
    if status != "ok":
        return status, None, why
    is_code_enough = reply.rung == "text" and not request.images
    try:
        data = read_guarded(reply.text, prompt.codes, question.notes, is_code_enough=is_code_enough)
    except Unreadable as error:
        return "unparsable", None, str(error)
    asked = str(request.fields.get("prompt", ""))
    is_guarded = bool(request.images) and addresses_judge(data["visible_text"], question.choices, asked)
    choice = question.choices[-1] if is_guarded else data["choice"]
    return "ok", {**data, "choice": choice, "said_choice": data["choice"], "is_guarded": is_guarded}, ""


def _outcome(reply: Reply) -> tuple[Status, str]:
    """What a reply is before anybody reads it."""
    if reply.refusal is not None:
        return "refused", f"the model declined: {reply.refusal}"
    if reply.finish == "content_filter":
        return "filtered", "the server's filter withheld the reply"
    if reply.finish == "length":
        return "unparsable", "the reply was cut at the longest length allowed; be brief"
    return "ok", ""


def _letters(prompt: Prompt) -> int:
    """Bytes of the texts of a prompt."""
    contents = [message["content"] for message in prompt.messages]
    texts = [[{"text": content}] if isinstance(content, str) else content for content in contents]
    return sum(len(part.get("text", "").encode()) for parts in texts for part in parts)


async def _encode(images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    if sum(image.shape[0] * image.shape[1] for image in images) > INLINE_PIXELS:
        return await asyncio.to_thread(lambda: [picture(image) for image in images])
    return [picture(image) for image in images]
