"""Key: what makes two requests the same one.

Everything that decides the answer, and nothing else: the question's words, the model and how it samples, the untrusted
texts, the *decoded pixels* of the images (however their files were encoded), which of several votes it is. The codes
of a guarded question are not part of it. Of the server's address host and path count, for one gateway may have other
models of the same name under another path; the port does not, with which a server of one's own changes from run to run:
models that differ want names that do.
"""

import base64
import functools
import hashlib
import io
import json
import pickle
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from .judge_prompt import AGAIN, AGAIN_FREE, GUARD
from .judge_settings import JudgeSettings
from .question import Question


class Keys:
    """Keys of requests to one model."""

    def __init__(self, settings: JudgeSettings) -> None:
        address = urlsplit(settings.server)
        self._endpoint = _digest(
            [
                address.hostname,
                address.path,
                settings.model,
                settings.temperature,
                settings.seed,
                dict(settings.extra_body),
                settings.content_retries,
            ]
        )
        self._chat_tokens = settings.chat_tokens

    def request(self, question: Question, text: str, images: Sequence[np.ndarray]) -> bytes:
        """Of a question about ``text``, as it is sent, and images."""
        whole = hashlib.sha256(self._endpoint + _of_question(question))
        whole.update(text.encode())
        for image in images:
            whole.update(b"image %d %d" % image.shape[:2])
            whole.update(np.ascontiguousarray(image).data)
        return whole.digest()

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> bytes:
        """Of a conversation; images in it count by their pixels."""
        return hashlib.sha256(
            self._endpoint + _digest(["chat", self._chat_tokens, _by_pixels(list(messages))])
        ).digest()


def vote_key(key: bytes, vote: int, is_second: bool) -> bytes:
    """Of one vote; the first look of the first vote is the request itself."""
    return hashlib.sha256(key + b"vote %d %d" % (vote, is_second)).digest() if vote or is_second else key


@functools.lru_cache(256)
def _of_question(question: Question) -> bytes:
    read = pickle.dumps(question.read, protocol=4).hex() if question.read else None
    words = [GUARD, AGAIN, AGAIN_FREE] if question.choices else []
    return _digest(
        [
            question.name,
            question.instructions,
            question.choices,
            question.notes,
            question.template,
            read,
            question.max_tokens,
            words,
        ]
    )


def _by_pixels(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("data:image/"):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(value.partition(",")[2]))).convert("RGB"))
        return [pixels.shape[:2], hashlib.sha256(pixels.tobytes()).hexdigest()]
    if isinstance(value, Mapping):
        return {key: _by_pixels(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_by_pixels(item) for item in value]
    return value


def _digest(value: Any) -> bytes:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
