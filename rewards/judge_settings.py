"""The settings of a judge: ``configs/judge/*.yaml`` as a dataclass, checked where it is made."""

import base64
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlsplit, urlunsplit

Modality = Literal["auto", "json_schema", "json_object", "text"]
"""How a server is told the form of a guarded reply: by a schema, as "some JSON", by words alone; or the first that it
accepts."""
CacheMode = Literal["read_write", "read_only", "off"]
TokensName = Literal["max_tokens", "max_completion_tokens"]
OURS = frozenset({"messages", "model", "response_format", "stream"})
"""Keys of a request that are not for ``extra_body``."""
TABLES = frozenset({"extra_body", "prices"})
"""Settings of which null means an empty one: the command line could not fill an empty one of a file."""
NO_KEY = "EMPTY"
"""Sent where there is no key: the openai client wants one."""
OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """How many requests may be under way at once: more while all is well, fewer when the server pushes back.

    Defaults are those of inspect_ai.
    """

    min: int = 10
    start: int = 20
    max: int = 100

    def __post_init__(self) -> None:
        for name in ("min", "start", "max"):
            _check(f"concurrency.{name}", getattr(self, name), 1, int)
        if not self.min <= self.start <= self.max:
            raise ValueError(
                f"Expected concurrency with min <= start <= max, got {self.min}, {self.start} and {self.max}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs, in any one currency."""

    input: float
    """Of a million tokens read."""
    output: float
    """Of a million tokens written."""
    cached: float | None = None
    """Of a million tokens read that the server had in its own cache; ``None``: as ``input``."""
    image: float = 0.0
    """Of an image, beside its tokens."""

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(f"a price's {item.name}", getattr(self, item.name), 0, float, is_optional=item.name == "cached")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """Which model judges, behind which server, and how it is asked."""

    model: str
    """As the server names it."""
    base_url: str | None = None
    """Of an OpenAI-compatible server, such as "http://127.0.0.1:8000/v1"; ``None``: $OPENAI_BASE_URL, else OpenAI's."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. Servers of one's own may need none."""
    temperature: float | None = 0.0
    """Both of WISE's protocols judge at 0; ``None``: not sent, for models that refuse it."""
    seed: int | None = 0
    """Sent along: at temperature 0 servers are still not deterministic. ``None``: not sent."""
    max_tokens_name: TokensName = "max_tokens"
    """What servers call the longest reply; reasoning models of OpenAI want "max_completion_tokens"."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the request, such as vLLM's chat_template_kwargs."""
    modality: Modality = "auto"
    concurrency: Concurrency = field(default_factory=Concurrency)
    timeout_s: float = 30.0
    """Longest wait for one reply; the SDK's own default is 600 s."""
    deadline_s: float = 60.0
    """Longest time for one request, all its attempts and waits together."""
    retries: int = 6
    """Further attempts after transport failures: with the SDK's waits, what fits into the deadline."""
    backoff_s: float = 0.5
    """First wait between attempts; it doubles up to sixteen times itself (the SDK: 0.5 s to 8 s)."""
    content_retries: int = 2
    """Further attempts, each a changed request, after replies that cannot be read."""
    votes: int = 1
    """How often a question is asked; the majority counts. Where all sampling is greedy all votes are alike."""
    second_look: bool = False
    """Ask guarded questions again with images at half the resolution, where small writing cannot be read; the worse
    of both choices counts."""
    chat_tokens: int = 2048
    """Longest reply in a conversation: a decomposition into eight steps has some 800 tokens."""
    cache: str | None = None
    """File in which verdicts are kept (SQLite), on a disk of this machine; ``None``: each process remembers its last
    4,096."""
    cache_mode: CacheMode = "read_write"
    record: str | None = None
    """File to which every verdict is written (JSON lines)."""
    replay: str | None = None
    """File of such verdicts to answer from; no server is ever contacted."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    """By model."""
    max_cost: float | None = None
    """What may be spent, in the currency of the prices, by each client in each process."""
    max_failures: int = 16
    """Requests in a row that may fail to reach the server before asking stops with an error."""

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_texts()
        self._check_tables()
        if self.replay is not None and self.record is not None:
            raise ValueError("Expected judge.record or judge.replay, got both; a replay has nothing new to record.")
        if self.max_cost is not None and self.model not in self.prices:
            raise ValueError(
                f"Expected a price of {self.model!r} in judge.prices, without which max_cost means nothing."
            )

    def _check_texts(self) -> None:
        for name, known in (("modality", Modality), ("cache_mode", CacheMode), ("max_tokens_name", TokensName)):
            if getattr(self, name) not in get_args(known):
                raise _unexpected(name, f"among {', '.join(get_args(known))}", getattr(self, name))
        if not isinstance(self.model, str) or not self.model:
            raise _unexpected("model", "to name a model that the server has", self.model)
        if not isinstance(self.api_key_env, str) or not self.api_key_env:
            raise _unexpected("api_key_env", "to name an environment variable", self.api_key_env)
        if self.base_url is not None:
            _check_url("judge.base_url", self.base_url)
        if type(self.second_look) is not bool:
            raise _unexpected("second_look", "to be true or false", self.second_look)
        for name in ("cache", "record", "replay"):
            path = getattr(self, name)
            if path is not None and (not isinstance(path, str) or not path or Path(path).is_dir()):
                raise _unexpected(name, "to name a file, or to be null", path)

    def _check_tables(self) -> None:
        if not isinstance(self.concurrency, Concurrency):
            raise _unexpected("concurrency", "as {min: 10, start: 20, max: 100}", self.concurrency)
        is_table = isinstance(self.prices, Mapping) and all(isinstance(one, Price) for one in self.prices.values())
        if not is_table:
            raise _unexpected("prices", "as {model: {input: 2.5, output: 10}}, or null", self.prices)
        if not isinstance(self.extra_body, Mapping) or not all(isinstance(name, str) for name in self.extra_body):
            raise _unexpected("extra_body", "to hold further keys of a request, or to be null", self.extra_body)
        if taken := OURS & set(self.extra_body):
            raise _unexpected("extra_body", "without keys that every request has", ", ".join(sorted(taken)))
        try:
            json.dumps(dict(self.extra_body), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise _unexpected("extra_body", "to hold what JSON can", self.extra_body) from error

    def _check_numbers(self) -> None:
        for name, least in (
            ("retries", 0),
            ("content_retries", 0),
            ("votes", 1),
            ("chat_tokens", 1),
            ("max_failures", 1),
        ):
            _check(f"judge.{name}", getattr(self, name), least, int)
        for name, least_s in (("timeout_s", 0.001), ("deadline_s", 0.001), ("backoff_s", 0)):
            _check(f"judge.{name}", getattr(self, name), least_s, float)
        _check("judge.temperature", self.temperature, 0, float, is_optional=True)
        _check("judge.max_cost", self.max_cost, 0, float, is_optional=True)
        _check("judge.seed", self.seed, -(2**63), int, is_optional=True)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "JudgeSettings":
        """The settings that a configuration file holds.

        Raises:
            ValueError: An unknown key, or a value that makes no sense.
        """
        _known(values, cls, "judge")
        nested = {name: value for name, value in values.items() if not (value is None and name in TABLES)}
        if isinstance(concurrency := values.get("concurrency"), Mapping):
            _known(concurrency, Concurrency, "judge.concurrency")
            nested["concurrency"] = Concurrency(**concurrency)
        if isinstance(prices := values.get("prices"), Mapping):
            nested["prices"] = {model: _price(model, price) for model, price in prices.items()}
        try:
            return cls(**nested)
        except TypeError as error:
            raise ValueError(f"Expected the keys of configs/judge/openai.yaml: {error}.") from error

    @property
    def url(self) -> str | None:
        """Where requests go; ``None``: OpenAI's own."""
        url = self.base_url or os.environ.get("OPENAI_BASE_URL") or None
        if url is not None:
            _check_url("judge.base_url or $OPENAI_BASE_URL", url)
        return url

    @property
    def server(self) -> str:
        """Where requests go, fit to be shown: without a name and a password."""
        parts = urlsplit(self.url or OPENAI)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))

    @property
    def credentials(self) -> tuple[str, ...]:
        """What of the address may not be shown, in all the forms in which it is sent."""
        login = urlsplit(self.url or OPENAI).netloc.rpartition("@")[0]
        if not login:
            return ()
        plain = unquote(login)
        return login, plain, base64.b64encode(plain.encode()).decode(), *filter(None, (plain.partition(":")[2],))

    def key(self) -> str:
        """The key of the server, from the environment.

        Raises:
            ValueError: There is none, and OpenAI's own server wants one; or it is none.
        """
        key = os.environ.get(self.api_key_env, "").strip()
        if not key and self.url is None:
            raise ValueError(
                f"Expected a key in the environment variable {self.api_key_env}; set it, or judge.base_url for a "
                "server of your own, which may need none."
            )
        if not (key.isascii() and key.isprintable()):
            raise ValueError(
                f"Expected a key of plain letters and digits in the environment variable {self.api_key_env}, got one "
                "with other signs; set it anew."
            )
        return key or NO_KEY


def _unexpected(name: str, what: str, value: Any) -> ValueError:
    return ValueError(f"Expected judge.{name} {what}, got {value!r}.")


def _check_url(name: str, url: Any) -> None:
    shown = url
    try:
        parts = urlsplit(url)
        shown = url.replace(parts.netloc, parts.netloc.rpartition("@")[2])
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, TypeError, AttributeError):
        is_good = False
    if not is_good:
        raise ValueError(f"Expected {name} to begin with http:// or https:// and a host, got {shown!r}.")


def _price(model: Any, price: Any) -> Price:
    if not isinstance(price, Mapping):
        raise _unexpected(f"prices of {model}", "as {input: 2.5, output: 10}", price)
    _known(price, Price, f"judge.prices of {model}")
    try:
        return Price(**price)
    except TypeError as error:
        raise ValueError(f"Expected judge.prices of {model} with input and output: {error}.") from error


def _known(values: Mapping[str, Any], kind: type, name: str) -> None:
    known = {item.name for item in fields(kind)}
    if unknown := set(values) - known:
        raise ValueError(
            f"Expected {name} with keys among {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}."
        )


def _check(name: str, value: Any, least: float, kind: type, *, is_optional: bool = False) -> None:
    kinds = (int,) if kind is int else (int, float)
    if value is None and is_optional:
        return
    if type(value) not in kinds or not least <= value < math.inf:
        what = "an integer" if kind is int else "a number"
        raise ValueError(f"Expected {name} to be {what} of at least {max(least, -(2**63))}, got {value!r}.")
