"""What a judge wrote, read: strictly where a score hangs on it.

A guarded reply is one JSON object with exactly the keys asked for, once each; anything else is no verdict. Where the
object stands is taken leniently (reasoning before it, a fence around it), what it says is not. A judge that has seen
writing addressed to it has been spoken to by the picture, and the worst choice stands, whatever it chose.
"""

import functools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

_THOUGHT = re.compile(r"<think>.*?</think>|^.*?</think>", re.DOTALL | re.IGNORECASE)
_CODE = re.compile(r"(?<![A-Za-z0-9])[A-Z]\d[A-Z]\d(?![A-Za-z0-9])")
_ROLE = re.compile(
    r"\b(judges?|graders?|evaluators?|verdict|system prompt|ai model|language model|vlm|llm)\b|\bassistant\s*:"
    r"|\b(ignore|disregard|forget|override)\b.{0,40}\b(instructions?|rules?|prompts?|previous|above)\b"
    r"|visible_text|[\"']choice[\"']"
)
_VALUES = (
    r"\d{1,3}(?!\d)",
    r"[a-z]\d([a-z]\d)?\b",  # what codes look like
    r"(yes|no|true|correct|perfect|right|best|full|excellent)\b",
    r"pass",
)
_ANSWER = r"\b(scores?|ratings?|rates?|grades?|answers?|choices?|results?|labels?|codes?)\b"
_LINK = r"\W*(?:(?:is|are|of|must|should|be|to|as|with|it|this|the|a)\b\W*){0,4}"
_ORDER = r"\b(choose|select|reply|respond|output|return|say|pick)\b\W*(?:\w+\W+){0,3}?"


class Unreadable(ValueError):
    """A reply that is no verdict; the message says why, in words fit for the judge."""


def read_guarded(text: str, codes: Mapping[str, str], notes: Sequence[str], *, is_text: bool) -> dict[str, Any]:
    """The data of a guarded reply.

    Args:
        text: As it came.
        codes: Code to choice; the choices in any order.
        notes: Names of the texts asked for.
        is_text: Whether the form was asked for in words alone: then a bare code, the last one named, will do.

    Raises:
        Unreadable: It is not what was asked for.
    """
    text = without_thoughts(text)
    found = _last_object(text)
    if found is None:
        code = next((word for word in reversed(_CODE.findall(text)) if word in codes), None) if is_text else None
        if code is None:
            raise Unreadable("there is no JSON object in it")
        found = {"visible_text": "", **dict.fromkeys(notes, ""), "choice": code}
    keys = {"visible_text", *notes, "choice"}
    if set(found) != keys:
        raise Unreadable(f"its keys are not {', '.join(sorted(keys))}")
    if wrong := [name for name in sorted(keys) if not isinstance(found[name], str)]:
        raise Unreadable(f"{wrong[0]} is not a text")
    if found["choice"] not in codes:
        raise Unreadable("its choice is not one of the codes")
    return {**found, "choice": codes[found["choice"]]}


def addresses_judge(visible_text: str, choices: tuple[str, ...] = ()) -> bool:
    """Whether writing in an image speaks to whoever judges it: names a judge, an answer, a score, or gives orders.

    Args:
        visible_text: What the judge says that it saw.
        choices: Answers that writing could ask for, beside the usual ones.
    """
    text = unicodedata.normalize("NFKC", visible_text).casefold()
    text = " ".join("".join(c for c in text if unicodedata.category(c) != "Cf").split())
    return bool(_ROLE.search(text) or _asks_for(choices).search(text))


def without_thoughts(text: str) -> str:
    """A reply without what the model thought aloud before it."""
    return _THOUGHT.sub("", text).strip()


@functools.lru_cache(256)
def _asks_for(choices: tuple[str, ...]) -> re.Pattern[str]:
    values = "|".join([*_VALUES, *(rf"{re.escape(choice.casefold())}\b" for choice in choices)])
    return re.compile(f"({_ANSWER}{_LINK}|{_ORDER})({values})")


def _last_object(text: str) -> dict[str, Any] | None:
    """The last complete JSON object that stands by itself.

    Raises:
        Unreadable: It says a thing twice, or holds what is no number.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)
    found, at = None, text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            end = at + 1
        else:
            found = value
        at = text.find("{", end)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise Unreadable("a key stands in it twice")
    return dict(pairs)


def _no_number(name: str) -> None:
    raise Unreadable(f"{name} is not a number")
