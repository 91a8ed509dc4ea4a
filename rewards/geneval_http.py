"""HttpDetector: a detector on another machine, over JSON.

``GET /`` says what is there, ``POST /look`` looks at images:

* ``GET /`` gives ``{"detector": name, "classes": [...], "rule": {...}}``, the rule being the one it has by default.
* ``POST /look`` takes ``{"images": [PNG in base64, ...], "metadata": [{...}, ...], "rule": {...}}`` and gives
  ``{"objects": [{class: [{"box": [left, top, right, bottom], "score": s, "color": name or null}, ...], ...}, ...]}``,
  for each image what ``Detector.look`` does, without masks.
* What fails is ``{"error": text}``: 400 for what the client did wrong, 500 for what failed on the server.

``geneval_server.py`` is such a server. Nothing is pickled: either side can be somebody else's.
"""

import base64
import http.client
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from .geneval import Found, Objects, Rule, colors_needed

_NO_OBJECTS = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


class HttpDetector:
    """A detector behind a URL.

    Args:
        url: Of the server, such as "http://127.0.0.1:18085".
        rule: What counts as seen; the server's default if ``None``.
        batch: Images per request; Flow-GRPO's client sends 64.
        timeout: Seconds that a request may take; 120 as in Flow-GRPO's.
        retries: Further attempts after the first where the server is out of reach, slow or failing. Five take half a
            minute of waiting: enough for a restart, and a dead server is not hidden.
        pause: Seconds before the first of them; doubled each time.
    """

    def __init__(
        self,
        url: str,
        *,
        rule: Rule | None = None,
        batch: int = 64,
        timeout: float = 120.0,
        retries: int = 5,
        pause: float = 1.0,
    ) -> None:
        if not _is_url(url):
            raise ValueError(f"Expected url as http://host:port or https://host:port, got {url!r}.")
        for name, value, least in (("batch", batch, 1), ("retries", retries, 0)):
            if value < least:
                raise ValueError(f"Expected {name} to be at least {least}, got {value!r}.")
        self.url = url.rstrip("/")
        self._rule, self._batch, self._timeout, self._retries, self._pause = rule, batch, timeout, retries, pause

    @cached_property
    def _server(self) -> Mapping[str, Any]:
        told = self._call("/", None)
        classes = told.get("classes")
        is_list = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        if not is_list or not isinstance(told.get("rule"), dict):
            raise OSError(f"Expected a detector with its classes and rule at {self.url}, got {told!r:.200}.")
        return told

    @property
    def classes(self) -> Sequence[str]:
        """What the server's detector can see."""
        return tuple(self._server["classes"])

    @property
    def rule(self) -> Rule:
        """What counts as seen."""
        return self._rule or self._default

    @cached_property
    def _default(self) -> Rule:
        """The server's rule."""
        told = self._server["rule"]
        try:
            return Rule(**told)
        except (TypeError, ValueError) as error:
            raise OSError(f"Expected a detector's rule from {self.url}, got {told!r:.200} ({error}).") from error

    def look(
        self, images: Sequence[np.ndarray], metadata: Sequence[Mapping[str, Any]], rule: Rule | None = None
    ) -> list[Objects]:
        """See ``Detector.look``.

        Raises:
            OSError: The server is out of reach, fails, or is none of ours.
            ValueError: The server refuses what is asked.
        """
        options = asdict(rule or self.rule)
        seen: list[Objects] = []
        for k in range(0, len(images), self._batch):
            pngs, asked = [_png(image) for image in images[k : k + self._batch]], list(metadata[k : k + self._batch])
            body = {"images": pngs, "metadata": asked, "rule": options}
            answer = self._call("/look", body)
            try:
                objects = [objects_from(each) for each in answer["objects"]]
            except _NO_OBJECTS as error:
                raise OSError(f"Expected objects of images from {self.url}, got {answer!r:.200}.") from error
            if len(objects) != len(pngs):
                raise OSError(f"Expected objects of {len(pngs)} images from {self.url}, got {len(objects)}.")
            for found, meta in zip(objects, asked, strict=True):
                self._check_colors(found, meta)
            seen += objects
        return seen

    def _check_colors(self, objects: Objects, metadata: Mapping[str, Any]) -> None:
        """Raise where a colour that decides is missing."""
        for name, number in colors_needed(objects, metadata).items():
            if any(item.color is None for item in objects[name][:number]):
                raise OSError(f"Expected colors of the first {number} {name!r} from {self.url}, got null.")

    def _call(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """One request, tried again where that can help."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        for attempt in range(self._retries + 1):
            try:
                with urllib.request.urlopen(request, timeout=self._timeout) as reply:
                    return _json(reply.read(), self.url)
            except urllib.error.HTTPError as error:
                fault = f"status {error.code}: {_message(error)}"
                if error.code < 500 and error.code != 429:
                    raise ValueError(f"Expected {self.url} to take the request, got {fault}.") from error
            except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
                fault = str(getattr(error, "reason", error)) or type(error).__name__
            if attempt < self._retries:
                time.sleep(self._pause * 2**attempt)
        raise OSError(
            f"Expected a detector at {self.url}, got {fault} in each of {self._retries + 1} attempts; start one with "
            f"python -m strokes.rewards.geneval_server --detector mask2former --port …"
        )


def objects_to(objects: Objects) -> dict[str, Any]:
    """The objects of an image as JSON, without their masks."""
    return {
        name: [{"box": list(item.box), "score": item.score, "color": item.color} for item in found]
        for name, found in objects.items()
    }


def objects_from(record: Mapping[str, Any]) -> dict[str, list[Found]]:
    """The inverse of ``objects_to``.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError: It is no such record.
    """
    return {name: [_found(item) for item in found] for name, found in record.items()}


def _found(item: Mapping[str, Any]) -> Found:
    left, top, right, bottom = map(_number, item["box"])
    if not isinstance(item["color"], str | None):
        raise TypeError("a color is a name or null")
    return Found(box=(left, top, right, bottom), score=_number(item["score"]), color=item["color"])


def _number(value: Any) -> float:
    if isinstance(value, (bool, str)) or not math.isfinite(value):
        raise TypeError("boxes and scores are finite numbers")
    return float(value)


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that cannot be one
        return False


def _png(image: np.ndarray) -> str:
    written = BytesIO()
    Image.fromarray(image).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def _json(text: bytes, url: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OSError(f"Expected JSON from {url}, got {text[:80]!r}; that is another server.") from error
    if not isinstance(record, dict):
        raise OSError(f"Expected an object from {url}, got {text[:80]!r}; that is another server.")
    return record


def _message(error: urllib.error.HTTPError) -> str:
    """What the server says went wrong."""
    try:
        text = error.read(2000)
    except (OSError, http.client.HTTPException):
        return str(error.reason)
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return text[:200].decode("utf-8", "replace").strip() or str(error.reason)
