"""Endpoint: an OpenAI-compatible server, reached or not; every way of failing has a name.

The openai client sends, one attempt at a time; waits between attempts are ours, so that a request's deadline holds for
all of them together. Replies are read from the bytes that came: the client's own models raise different errors for
different kinds of rubbish (a web page, no choices, half a JSON), here all of them are one.
"""

import asyncio
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import Any

from .judge_limit import Limit
from .judge_reply import without_halves
from .judge_settings import NO_KEY, JudgeSettings
from .question import Status

RETRIED = frozenset({408, 409, 429})
"""As the openai client does, beside everything from 500 on."""
PUSHED_BACK = frozenset({429, 503})
UNSUPPORTED = frozenset({400, 422})
LADDER = ("json_schema", "json_object", "text")
LONGEST_WAIT = 16
"""In units of the first wait."""
_MODERATED = re.compile(
    r"moderat|flagged|content.?(filter|policy)|safety|inappropriate|prohibited content", re.IGNORECASE
)
_MOST_TOKENS = 2**53


class JudgeUnavailable(OSError):
    """No judge is to be had: the server is out of reach, or does not know the model or the key."""


class Failed(Exception):
    """A request that has no reply."""

    def __init__(self, status: Status, why: str, attempts: int = 1) -> None:
        super().__init__(why)
        self.status: Status = status
        self.attempts = attempts


class _Unsupported(Exception):
    """The server does not take the request in this form."""

    attempts = 1


class _Retry(Exception):
    """An attempt that failed, and may not the next time."""

    def __init__(self, why: str, status: Status = "transport", wait_s: float | None = None) -> None:
        super().__init__(why)
        self.status: Status = status
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server answered."""

    text: str
    finish: str = "stop"
    """Why it ends: "stop", "length", "content_filter"."""
    refusal: str | None = None
    model: str = ""
    """Who says it: the server's name for the model, and the fingerprint of what it runs on, where it gives one."""
    rung: str = "text"
    """How its form was asked for."""
    attempts: int = 1
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    is_counted: bool = True
    """Whether the server counted tokens at all."""


class Endpoint:
    """A server and a model on it; for one event loop."""

    def __init__(self, settings: JudgeSettings, limit: Limit) -> None:
        from openai import AsyncOpenAI

        self.settings = settings
        self.limit = limit
        self.rung = 0 if settings.modality == "auto" else LADDER.index(settings.modality)
        self._key = settings.key()
        self._has_answered = False
        self._client = AsyncOpenAI(api_key=self._key, base_url=settings.url, timeout=settings.timeout_s, max_retries=0)

    async def close(self) -> None:
        """Give up its connections."""
        await self._client.close()

    async def complete(
        self,
        messages: list[Mapping[str, Any]],
        *,
        max_tokens: int,
        until: float,
        seed: int | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """The assistant's next message.

        Args:
            messages: The conversation so far.
            max_tokens: Longest reply.
            until: When to give up, by ``time.monotonic``.
            seed: Sent along.
            schema: Of the reply, in whichever way the server takes it; ``None``: any text.

        Raises:
            Failed: No reply within retries and deadline.
            JudgeUnavailable: There is no such model, or no access to it.
        """
        body: dict[str, Any] = {"messages": messages, self.settings.max_tokens_name: max_tokens}
        body |= self.settings.extra_body
        if self.settings.temperature is not None:
            body["temperature"] = self.settings.temperature
        if seed is not None:
            body["seed"] = seed
        return await (self._persist(body, until) if schema is None else self._descend(body, schema, until))

    async def _descend(self, body: Mapping[str, Any], schema: Mapping[str, Any], until: float) -> Reply:
        """A reply in the first form that the server takes, from the one on that it is known to take."""
        attempts = 0
        for rung in range(self.rung, len(LADDER)):
            asked = {**body, **_response_format(LADDER[rung], schema)}
            try:
                reply = await self._persist(asked, until)
            except _Unsupported as error:
                attempts += error.attempts
                if self.settings.modality != "auto":
                    raise Failed("transport", str(error), attempts) from error
                continue
            except Failed as error:
                raise Failed(error.status, str(error), attempts + error.attempts) from error
            self.rung = max(self.rung, rung)  # learnt only now: the form was at fault, not the request
            return replace(reply, rung=LADDER[rung], attempts=reply.attempts + attempts)
        raise AssertionError("The last rung returns or raises.")

    async def _persist(self, body: Mapping[str, Any], until: float) -> Reply:
        """Attempts until one succeeds, or retries or time are spent."""
        for attempt in range(1, self.settings.retries + 2):
            try:
                reply = await self._attempt(body, until)
            except _Unsupported as error:
                error.attempts = attempt
                if "response_format" in body:
                    raise
                raise Failed("transport", str(error), attempt) from error
            except Failed as error:
                raise Failed(error.status, str(error), attempt) from error
            except _Retry as error:
                wait = self._wait(attempt) if error.wait_s is None else error.wait_s
                late = monotonic() + wait >= until
                if attempt > self.settings.retries or late:
                    why = f"{error} (given up after {attempt} attempts)"
                    raise Failed(error.status, why, attempt) from error
                await asyncio.sleep(wait)
            else:
                self.limit.answered()
                self._has_answered = True
                return replace(reply, attempts=attempt)
        raise AssertionError("The last attempt returns or raises.")

    def _wait(self, attempt: int) -> float:
        longest = self.settings.backoff_s * min(2 ** (attempt - 1), LONGEST_WAIT)
        return longest * random.uniform(0.75, 1)  # the SDK's jitter: batches that fail together come back apart

    async def _attempt(self, body: Mapping[str, Any], until: float) -> Reply:
        import openai

        create = self._client.chat.completions.with_raw_response.create
        try:
            async with asyncio.timeout(max(0.0, min(self.settings.timeout_s, until - monotonic()))):
                # As `extra_body` the request goes out as it is; as arguments it would be walked through, type by type.
                raw = await create(model=self.settings.model, messages=[], extra_body=body)
        except (TimeoutError, openai.APITimeoutError) as error:
            raise _Retry(f"{self.settings.server} did not answer in time", "timeout") from error
        except openai.APIStatusError as error:
            raise self._refused(error) from error
        except openai.APIConnectionError as error:
            why = _short(self._cleaned(str(error.__cause__ or error)))
            raise _Retry(f"{self.settings.server} is out of reach: {why}") from error
        return read_completion(raw.http_response.content)

    def _refused(self, error: Any) -> Exception:
        """What an HTTP error means for the request."""
        code, words = error.status_code, error.response.text or error.message
        said = f"{self.settings.server} answered {code}: {_short(self._cleaned(words))}"
        if code == 403 and (self._has_answered or _MODERATED.search(words)):  # of this request, not of the key
            return Failed("filtered", said)
        if code in (401, 403):
            return JudgeUnavailable(f"{said}. Expected a key that it accepts in ${self.settings.api_key_env}.")
        if code == 404:
            return JudgeUnavailable(
                f"{said}. Expected judge.model to name a model of this server, got {self.settings.model!r}; "
                "or judge.base_url lacks its /v1."
            )
        if error.code == "content_filter":
            return Failed("filtered", said)
        if code in UNSUPPORTED:
            return _Unsupported(said)
        if code in RETRIED or code >= 500:
            if code in PUSHED_BACK:
                self.limit.pushed_back()
            return _Retry(said, wait_s=_asked_wait(error.response.headers))
        return Failed("transport", said)

    def _cleaned(self, words: str) -> str:
        """What somebody else says, without the key and the password that it may repeat."""
        for secret in filter(None, (self._key if self._key != NO_KEY else "", *self.settings.credentials)):
            words = words.replace(secret, "…")
        return words


def read_completion(body: bytes) -> Reply:
    """A reply from the bytes of an answer with status 200.

    Raises:
        _Retry: They are not a completion.
    """
    if body.lstrip()[:1] == b"<":
        raise _Retry(f"a web page came instead of a completion: {_short(body.decode('utf-8', 'replace'))}")
    try:
        answer = json.loads(body)
        choice = answer["choices"][0]
        message, usage = choice["message"], answer.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        names = [str(answer[name]) for name in ("model", "system_fingerprint") if answer.get(name)]
        return Reply(
            text=_text(message.get("content")),
            finish=choice.get("finish_reason") or "stop",
            refusal=_text(message.get("refusal")) or None,
            model=without_halves(" ".join(names)),
            prompt_tokens=_count(usage, "prompt_tokens"),
            cached_tokens=_count(details, "cached_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
            is_counted=bool(usage),
        )
    except IndexError as error:
        raise _Retry("the completion has no choices") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _Retry(f"what came is not a completion: {_short(body.decode('utf-8', 'replace'))}") from error


def _text(content: Any) -> str:
    """What a message says: a text, or a list of parts of which some are."""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part["type"] == "text")
    if content is not None and not isinstance(content, str):
        raise TypeError(content)
    return without_halves(content or "")


def _count(usage: Mapping[str, Any], name: str) -> int:
    """Tokens, as a server counted them."""
    count = usage.get(name) or 0
    if not 0 <= count < _MOST_TOKENS:
        raise ValueError(count)
    return int(count)


def _response_format(rung: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if rung == "text":
        return {}
    if rung == "json_object":
        return {"response_format": {"type": rung}}
    return {"response_format": {"type": rung, "json_schema": {"name": "verdict", "strict": True, "schema": schema}}}


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait; ``None``: it does not say."""
    milliseconds, seconds = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        return None if seconds is None else max(0.0, float(seconds))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(seconds or "").timestamp() - time())
    except (ValueError, TypeError):
        return None


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 200 else words[:200] + "…"
