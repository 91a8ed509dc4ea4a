"""An OpenAI-compatible server that looks at the picture and tells the truth, except where it is told to fail.

Run it by hand:

    python tests/rewards/truthful.py --port 8000 --faults 0.2 --seed 0 --delay 0.05
"""

import argparse
import base64
import io
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image
from truth import ANSWERS, HEARD, SAYS, Images

from strokes.envs.scenes import Object, Scene, render
from strokes.envs.scenes.detect import detect
from strokes.rewards.judge import Concurrency, JudgeSettings, Price

FAULTS = (
    "429",
    "retry-after",
    "500",
    "hang",
    "bad-json",
    "bad-choice",
    "length",
    "content-filter",
    "refusal",
    "no-choices",
    "html",
    "unsupported",
)
"""What a server may do instead of answering."""
FORBIDDEN = {"403": "Access denied.", "moderated": "Input was flagged by moderation."}
"""Further ones, which are scripted only, beside "401-echo" and "500-echo", which repeat the key."""
MODEL = "truth"
WAIT_MS = 20
BLOCK = re.compile(r"```json\n(.*?)\n```", re.DOTALL)
CODE = re.compile(r'^- "(\w+)" means "(.*)"$', re.MULTILINE)
PAGE = b"<!DOCTYPE html><html><body>Sign in to the gateway</body></html>"


class Truthful(ThreadingHTTPServer):
    """The server; as a context manager it runs in a thread, on a free loopback port.

    Args:
        faults: Share of requests that fail, drawn by ``seed`` from ``kinds``.
        script: Faults of the first requests, one each; "" answers.
        delay: Seconds before every answer.
        hang: Seconds that a hanging request takes.
        refused: Types of response_format that are answered with 400, always.
        sees: What it reports as the writing in images.
    """

    request_queue_size = 512  # the default of 5 resets connections at a concurrency of 64
    daemon_threads = True

    def __init__(
        self,
        *,
        port: int = 0,
        faults: float = 0.0,
        seed: int = 0,
        script: Iterable[str] = (),
        kinds: Iterable[str] = FAULTS[:-1],
        delay: float = 0.0,
        hang: float = 30.0,
        refused: Iterable[str] = (),
        sees: Callable[[Images], str] = lambda images: "",
    ) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.faults, self.kinds, self.script = faults, tuple(kinds), list(script)
        self.delay, self.hang, self.refused, self.sees = delay, hang, tuple(refused), sees
        self.counts: Counter[str] = Counter()
        """Requests by what became of them; "all" of them."""
        self.bodies: list[dict[str, Any]] = []
        """The last requests."""
        self.stopped = threading.Event()
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._thread: threading.Thread | None = None
        detect(render(Scene((Object("circle", "red", 24, 24, 8),), size=48)))  # learns the shapes once, not per thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def settings(self, **changes: Any) -> JudgeSettings:
        """Of a client that asks this server, and does not wait long between attempts."""
        prices = {MODEL: Price(input=1.0, output=4.0)}
        if isinstance(width := changes.get("concurrency"), dict):
            changes["concurrency"] = Concurrency(**width)
        usual: dict[str, Any] = {"model": MODEL, "base_url": self.url, "backoff_s": 0.01, "prices": prices}
        return JudgeSettings(**usual | changes)

    def fate(self, body: dict[str, Any]) -> str:
        """What becomes of a request: a fault, or "" for an answer."""
        with self._lock:
            self.counts["all"] += 1
            self.bodies = [*self.bodies[-15:], body]
            fate = self.script.pop(0) if self.script else ""
            if not fate and self._random.random() < self.faults:
                fate = self._random.choice(self.kinds)
            if body.get("response_format", {}).get("type") in self.refused:
                fate = "unsupported"
            self.counts[fate or "answered"] += 1
        return fate

    def __enter__(self) -> "Truthful":
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may hang up; whatever else happens is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Truthful

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.path.endswith("/v1/chat/completions"):
            return self._send(404, {"error": {"message": f"no such path: {self.path}"}})
        if body["model"] != MODEL:
            return self._send(404, {"error": {"message": f"The model {body['model']} does not exist."}})
        if self.headers["Authorization"] == "Bearer wrong":
            return self._send(401, {"error": {"message": "Incorrect API key provided."}})
        fate = self.server.fate(body)
        self.server.stopped.wait(self.server.hang if fate == "hang" else self.server.delay)
        return self._answer(body, fate)

    def _answer(self, body: Mapping[str, Any], fate: str) -> None:
        if fate in ("429", "retry-after"):
            headers = {"retry-after-ms": str(WAIT_MS)} if fate == "retry-after" else {}
            return self._send(429, {"error": {"message": "Rate limit reached."}}, headers)
        if fate in ("500", "hang"):
            return self._send(500, {"error": {"message": "Internal error."}})
        if fate in FORBIDDEN:
            return self._send(403, {"error": {"message": FORBIDDEN[fate]}})
        if fate in ("401-echo", "500-echo"):
            told = f"No {self.headers['Authorization']} here, somebody:passw0rd!"
            return self._send(int(fate[:3]), {"error": {"message": told}})
        if fate == "unsupported":
            return self._send(400, {"error": {"message": "response_format is not supported."}})
        if fate == "html":
            return self._send(200, PAGE, {"Content-Type": "text/html"})
        try:
            text = said(body, self.server.sees)
        except LookupError as error:
            return self._send(400, {"error": {"message": f"Cannot answer: {error}"}})
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        finish = "stop"
        if fate == "bad-json":
            message["content"] = text[: len(text) // 2] + " and so on"
        elif fate == "bad-choice":
            message["content"] = re.sub(r'("choice": )"\w*"', r'\1"A1A1"', text)
        elif fate == "length":
            message["content"], finish = text[: len(text) // 2], "length"
        elif fate == "content-filter":
            message["content"], finish = "", "content_filter"
        elif fate == "refusal":
            message["content"], message["refusal"] = None, "I cannot help with that."
        choices = [] if fate == "no-choices" else [{"index": 0, "message": message, "finish_reason": finish}]
        asked = len(json.dumps(body["messages"])) // 4
        usage = {"prompt_tokens": asked, "completion_tokens": len(text) // 4, "total_tokens": asked + len(text) // 4}
        answer = {"id": "0", "object": "chat.completion", "created": 0, "model": MODEL, "choices": choices}
        return self._send(200, {**answer, "usage": usage})

    def _send(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        lines = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.wfile.write(f"HTTP/1.1 {status} {self.responses[status][0]}\r\n{head}\r\n".encode() + data)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are counted, not printed."""


def said(body: Mapping[str, Any], sees: Callable[[Images], str]) -> str:
    """The true reply to a request.

    Raises:
        LookupError: Nobody knows.
    """
    parts = [part for message in body["messages"] if message["role"] == "user" for part in _parts(message["content"])]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    images = [seen(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]
    blocks = [found for block in BLOCK.findall(text) if "question" in (found := json.loads(block))]
    if not blocks:
        return next(answer for is_meant, answer in HEARD if is_meant(text))(text, images)
    fields = dict(blocks[-1])
    name = fields.pop("question")
    if name in SAYS:
        return SAYS[name](fields, images)
    codes = {choice: code for code, choice in CODE.findall(text)}
    answer = ANSWERS[name](fields, images)
    keys = re.findall(r'"(\w+)"', text[text.index("Reply with one JSON object") : text.index("The codes:")])
    reply = {key: answer.get(key, "") for key in keys}
    reply |= {"visible_text": sees(images), "choice": codes[answer["choice"]]}
    whole = json.dumps(reply)
    return whole if "response_format" in body else f"<think>{{so}}</think>Here it is:\n```json\n{whole}\n```\nDone."


def seen(url: str) -> np.ndarray:
    """The picture that was sent."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


def _parts(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests that fail")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before an answer")
    parser.add_argument("--hang", type=float, default=30.0, help="seconds that a hanging request takes")
    options = parser.parse_args()
    with Truthful(**vars(options)) as server:
        print(server.url, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
