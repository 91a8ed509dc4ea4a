"""What a judge wrote, read: strictly where a score hangs on it.

A guarded reply is one JSON object with exactly the keys asked for, once each; anything else is no verdict. Where the
object stands is taken leniently (reasoning before it, a fence around it), what it says is not. A judge that has seen
writing addressed to it (``judge_writing``) has been spoken to by the picture, and the worst choice stands, whatever it
chose.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_THOUGHT_END = re.compile(r"</think>", re.IGNORECASE)
_CODE = re.compile(r"(?<![A-Za-z0-9])[A-Z]\d[A-Z]\d(?![A-Za-z0-9])")


class Unreadable(ValueError):
    """A reply that is no verdict; the message says why, in words fit for the judge."""


def read_guarded(
    text: str, codes: Mapping[str, str], notes: Sequence[str], *, is_code_enough: bool = False
) -> dict[str, Any]:
    """The data of a guarded reply.

    Args:
        text: As it came.
        codes: Code to choice; the choices in any order.
        notes: Names of the texts asked for.
        is_code_enough: Whether a bare code, the last one named, will do: where the form was asked for in words alone
            and there is no image, whose writing would have to be told.

    Raises:
        Unreadable: It is not what was asked for.
    """
    whole, thought_end = _last_object(text)
    if whole is None:
        said = _CODE.findall(text[thought_end:]) if is_code_enough else []
        code = next((word for word in reversed(said) if word in codes), None)
        if code is None:
            raise Unreadable("there is no JSON object in it")
        return {"visible_text": "", **dict.fromkeys(notes, ""), "choice": codes[code]}
    found = json.loads(whole, object_pairs_hook=_once, parse_constant=_no_number)
    keys = {"visible_text", *notes, "choice"}
    if set(found) != keys:
        raise Unreadable(f"its keys are not {', '.join(sorted(keys))}")
    if wrong := [name for name in sorted(keys) if not isinstance(found[name], str)]:
        raise Unreadable(f"{wrong[0]} is not a text")
    if found["choice"] not in codes:
        raise Unreadable("its choice is not one of the codes")
    found = {name: without_halves(words) for name, words in found.items()}
    return {**found, "choice": codes[found["choice"]]}


def without_halves(text: str) -> str:
    """A text with "?" in place of halves of letters (lone surrogates), which no file can hold."""
    return text.encode("utf-8", "replace").decode()


def _last_object(text: str) -> tuple[str | None, int]:
    """The last complete JSON object that stands by itself, and where the model stopped to think aloud.

    What an object holds ends no thoughts: a picture may say "</think>", and the judge has to write it down.
    """
    decoder, spans, at = json.JSONDecoder(), list[tuple[int, int]](), text.find("{")
    while at >= 0:
        try:
            _, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            spans.append((at, end))
        at = text.find("{", end)
    ends = [match.end() for match in _THOUGHT_END.finditer(text)]
    thought_end = max((k for k in ends if not any(start < k < end for start, end in spans)), default=0)
    said = [text[start:end] for start, end in spans if start >= thought_end]
    return (said[-1] if said else None), thought_end


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise Unreadable("a key stands in it twice")
    return dict(pairs)


def _no_number(name: str) -> None:
    raise Unreadable(f"{name} is not a number")
