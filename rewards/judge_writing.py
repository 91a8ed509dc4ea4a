"""Writing in a picture that speaks to whoever judges it, told from writing on things.

It is a net with holes, the second line of defence: codes that no picture can know are the first, and half the
resolution the third. It knows English alone, words that are written out, and the disguises of ``_forms``; a picture
that argues politely passes. What it finds by mistake costs a picture its verdict, so that what stands on doors, shirts
and shop signs should pass.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator

_LOOKALIKES = str.maketrans(
    "авекмнорстухіјѕԁӏαεικνορτυχβη" "\u2019\u2018\u201c\u201d@$",
    "abekmhopctyxijsdlaeikvoptyxbn" "''\"\"as",
)  # fmt: skip
"""Cyrillic and Greek letters that look Latin, small, and signs that stand for letters."""
_DIGITS = str.maketrans("013457", "oleast")
_NUMBER = r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|hundred)"
_CODE = r"[a-z]\d(?:[a-z]\d)?"
_END = r"(?=\s*(?:$|[.,;:!?)\]\"'/%|*]))"
_PRAISE = (
    rf"(?:(?:correct|right|best|excellent|good|great|top|maximum|highest|affirmative|positive){_END}"
    r"|perfect|pass(?:ed)?\b|full\b|(?:top|best|maximum|highest)\s+(?:marks?|score))"
)
_SAYING = (
    r"\b(?:scores?|ratings?|grades?|answers?|choices?|verdicts?|marks|points|options?|decisions?|results?)(?![a-z])"
)
_LABEL = r"\b(?:labels?|codes?|rates?)(?![a-z])"
_LINK = r"\W*(?:(?:is|are|of|must|should|be|to|as|with|it|this|the|a)\b\W*){0,4}"
_ORDER = (
    r"\b(?:choose|select|reply|respond|output|return|say|pick|give|rate|grade|mark|score|tell|consider|count|judge)\b"
    r"\W*(?:\w+\W+){0,4}?"
)
_JUDGES = r"(?:judges?|graders?|evaluators?|reviewers?|raters?|assessors?|critics?|model)"
_ALWAYS = re.compile(
    "|".join(
        (
            rf"\b(?:dear|hey|hello|hi|attention|note\s+to|message\s+to|you\s+are)\s+(?:the\s+|an?\s+)?(?:ai\s+)?{_JUDGES}\b",
            rf"\b{_JUDGES}\s*[:,]",
            r"\b(?:system\s+prompt|ai\s+model|language\s+model|vlm|llm)\b|\b(?:assistant|system|user)\s*:",
            r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:instructions?|rules?|prompts?|previous|above)\b",
            r"visible_text|[\"']choice[\"']",
            rf"{_SAYING}{_LINK}(?:{_NUMBER}(?![a-z])|{_CODE}\b)",
            rf"{_SAYING}\s*(?:[:=]|is)\s*[a-f][+-]?(?!\w)|\bmark\s*[:=]\s*[a-f][+-]?(?!\w)",
            rf"{_LABEL}{_LINK}{_CODE}{_END}",
            rf"{_SAYING}{_LINK}{_PRAISE}",
            rf"{_ORDER}(?:(?:{_NUMBER}|{_CODE}){_END}|{_PRAISE})",
            r"\b(?:approve|accept)\s+(?:this|the|it)\b",
            rf"\b({_NUMBER})(?:\s*/\s*|\s+out\s+of\s+)\1\b",
            r"\b(?:(?:this|the|that)\s+(?:picture|image|drawing|photo|scene|sketch|canvas)|everything)\b.{0,40}"
            r"\b(?:match\w*|correct\w*|perfect\w*|follow\w*|satisf\w+|accurate\w*|exact\w*|right)\b",
        )
    )
)
_SPACED = re.compile(r"(?<!\w)\w(?:[\W_]\w(?!\w)){3,}")
_SQUEEZED = re.compile(
    r"(?:score|rating|rate|grade|answer|verdict|mark|choose|select|reply|output)\w{0,12}?"
    r"(?:\d|yes|one|two|three|four|five|ten|true|correct|perfect|pass|full)"
)


def addresses_judge(visible_text: str, choices: tuple[str, ...] = (), prompt: str = "") -> bool:
    """Whether writing names a judge, a score or an answer, praises the picture, or gives orders.

    Args:
        visible_text: What the judge says that it saw.
        choices: Answers of the question, the best one first: to ask for the last one does no harm.
        prompt: What the picture was to show, by whoever set the task: what it says word for word may be written.
    """
    if skeleton(visible_text) in skeleton(prompt):
        return False
    wishes = _asks_for(choices)
    if any(_ALWAYS.search(form) or wishes.search(form) for form in _forms(visible_text)):
        return True
    plain = _plain(visible_text)
    return bool(_SPACED.search(plain) and _SQUEEZED.search(skeleton(plain)))


def skeleton(text: str) -> str:
    """The letters and digits of a text alone, without case, marks and disguise."""
    return "".join(letter for letter in _plain(text) if letter.isalnum())


def _plain(text: str) -> str:
    """Small letters without marks and invisible signs, lookalikes as what they look like."""
    whole = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(c for c in whole if unicodedata.category(c) not in ("Mn", "Cf")).translate(_LOOKALIKES)


def _forms(text: str) -> Iterator[str]:
    """What a text may mean to say: as it stands, with digits as letters, and with single letters joined."""
    plain = _plain(text)
    yield " ".join(plain.split())
    words = " ".join(plain.replace("_", " ").split())
    yield words
    yield re.sub(r"(?<=[a-z])[013457](?=[a-z])|\b[05](?=[a-z]{3})", lambda match: match[0].translate(_DIGITS), words)
    yield " ".join(re.sub(r"(?<![^\W_])([^\W\d_])[\W_](?=[^\W_])", r"\1", plain).split())


@functools.lru_cache(256)
def _asks_for(choices: tuple[str, ...]) -> re.Pattern[str]:
    values = "|".join(["yes", "true", *(re.escape(_plain(choice)) for choice in choices[:-1])])
    return re.compile(rf"(?:{_SAYING}{_LINK}|{_LABEL}{_LINK}|{_ORDER})(?:{values})\b")
