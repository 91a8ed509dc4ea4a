"""Inquiries: questions to a remote model in words and pictures, and its replies as data.

What is asked about is untrusted and travels as one fenced block of JSON, whose key "question" names what is asked.
A reply may wrap its JSON in prose or fences; one that cannot be read is shown what was wrong and asked for again, a
few times at most. What cannot be had is an error in words, never a made-up answer.
"""

import base64
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from ..envs.markup import neutralise
from ..envs.protocols import Chat, Cost, Said

MAX_CHARS = 1000
"""Longest text taken over from a reply: four of them stay below the 4096 characters of ``CanvasEnv``."""
MAX_DOCUMENTS = 64
"""Most places of a reply at which JSON is looked for: a hostile one must not take forever."""
NO_REPLY = "Expected a reply, got none."
AGAIN = "That could not be read: {error} Answer again, with the JSON alone."


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """One question."""

    instructions: str
    """What is to be done; ours alone."""
    fields: Mapping[str, Any]
    """What it is about: what JSON can hold. Untrusted."""
    images: Sequence[np.ndarray] = ()
    """uint8 (height, width, 3) each, in the order in which the instructions speak of them."""
    read: Callable[[str], Any]
    """A reply to its data; raises ``ValueError`` where it cannot be read."""

    def conversation(self) -> list[Mapping[str, Any]]:
        """The question as a conversation of one message."""
        # An escaped back-tick reads the same as JSON and cannot close the fence.
        block = json.dumps(self.fields, ensure_ascii=False).replace("`", "\\u0060")
        text = f"{self.instructions}\n\n```json\n{block}\n```"
        if not self.images:
            return [{"role": "user", "content": text}]
        pictures = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in self.images]
        return [{"role": "user", "content": [{"type": "text", "text": text}, *pictures]}]


@dataclass(slots=True, kw_only=True)
class Answer:
    """What came of an inquiry."""

    data: Any = None
    """What its ``read`` gave."""
    error: str = NO_REPLY
    """Why there is no data; "" where there is."""
    cost: Cost = field(default_factory=Cost)
    """Of all attempts."""


def consult(chat: Chat, inquiries: Sequence[Inquiry], attempts: int) -> list[Answer]:
    """One answer for each inquiry; all conversations advance together.

    Args:
        chat: The remote model.
        inquiries: What to ask.
        attempts: How often one inquiry is put at most: again as it was where nothing came back, else with what was
            wrong with the reply.

    Raises:
        OSError: The server is out of reach.
    """
    answers = [Answer() for _ in inquiries]
    talks = [inquiry.conversation() for inquiry in inquiries]
    waiting = list(range(len(inquiries)))
    for _ in range(attempts):
        if not waiting:
            break
        begun = perf_counter()
        replies = chat.chat([talks[k] for k in waiting])
        seconds = (perf_counter() - begun) / len(waiting)
        asked, waiting = waiting, []
        for k, said in zip(asked, replies, strict=True):
            answers[k].cost += _cost(said, seconds)
            if said is None:
                answers[k].error = NO_REPLY
                waiting.append(k)
            elif not _read(answers[k], inquiries[k], said.text):
                again = AGAIN.format(error=answers[k].error)
                talks[k] = [*talks[k], {"role": "assistant", "content": said.text}, {"role": "user", "content": again}]
                waiting.append(k)
    return answers


def _cost(said: Said | None, seconds: float) -> Cost:
    if said is None:
        return Cost(calls=1, seconds=seconds)  # at least
    return Cost(calls=said.calls, remote_tokens=said.prompt_tokens + said.completion_tokens, seconds=seconds)


def _read(answer: Answer, inquiry: Inquiry, text: str) -> bool:
    """Whether the reply could be read."""
    try:
        answer.data, answer.error = inquiry.read(text), ""
    except ValueError as error:
        answer.error = str(error)
    return not answer.error


def documents(text: str) -> Iterator[Any]:
    """Lists and objects of JSON in a text, in order of their beginnings, inner ones too."""
    decoder = json.JSONDecoder()
    starts = [match.start() for match in re.finditer(r"[\[{]", text)]
    for start in starts[:MAX_DOCUMENTS]:
        try:
            yield decoder.raw_decode(text, start)[0]
        except (ValueError, RecursionError):
            continue


def words(value: Any, name: str) -> str:
    """A text of a reply as ordinary words on one line: no tag, no special token, no angle bracket.

    Raises:
        ValueError: It is no text, blank, or too long.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"Expected {name!r} to be a text, got {value!r:.80}.")
    plain = on_one_line(value)
    if not plain or len(plain) > MAX_CHARS:
        raise ValueError(f"Expected {name!r} to be words, at most {MAX_CHARS} characters, got {value!r:.80}.")
    return plain


def on_one_line(text: str) -> str:
    """A text as ordinary words on one line: no tag, no special token, no angle bracket."""
    return " ".join(re.sub(r"[<>]", " ", neutralise(text)).split())


def data_url(image: np.ndarray) -> str:
    """An image as a PNG within a URL."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
