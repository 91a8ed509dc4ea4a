"""One emission as a card of HTML. Whatever a model or a person wrote goes through ``escaped``."""

import base64
import html
import math
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image

from .archive import encode_png
from .filmstrip import strip_escapes
from .markup import Inspection, Plan, parse_inspection, parse_plan
from .stages import Stage
from .transcript import CRITIC, Entry

SHARP = 256
"""Pictures smaller than this are enlarged with sharp pixels."""


def escaped(words: str) -> str:
    """Words as HTML text or attribute: no markup, no control characters, no terminal escapes."""
    return html.escape(strip_escapes(words), quote=True)


def tag(name: str, inside: str = "", **attributes: str | int) -> str:
    """An element around ``inside``, which is HTML already; attributes are escaped, ``class_`` means class."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value != ""
    )
    return f"<{name}{pairs}>" if name == "img" else f"<{name}{pairs}>{inside}</{name}>"


def number(value: float | None) -> str:
    """A score with two decimals; a dash where there is no verdict."""
    return "\u2013" if value is None or math.isnan(value) else f"{value:.2f}"


def listed(class_: str, items: Iterable[str]) -> str:
    """A list of items that are HTML already."""
    return tag("ul", "".join(tag("li", item) for item in items), class_=class_)


def image(pixels: np.ndarray, alt: str, longest: int | None = None) -> str:
    """A picture inside the page.

    Args:
        pixels: uint8 (H, W, 3).
        alt: What it shows, in words.
        longest: Reduced to this side where it is larger.
    """
    if longest is not None and pixels.shape[0] > longest:
        pixels = np.array(Image.fromarray(pixels).resize((longest, longest), Image.Resampling.LANCZOS))
    side, data = pixels.shape[0], base64.b64encode(encode_png(pixels)).decode()
    small = "small" if side < SHARP else ""
    return tag("img", class_=small, src=f"data:image/png;base64,{data}", width=side, height=side, alt=alt)


def card(entry: Entry, anchor: str, where: str) -> str:
    """One emission: what it says or shows, its verdict, the reason if it was illegal, its terms.

    Args:
        entry: The emission.
        anchor: Id within the page, for the enlarged picture.
        where: Words for the picture's description, such as "round 1".
    """
    classes = ["card", entry.stage.name.lower()]
    classes += ["outside"] * entry.outside + ["words"] * (entry.source == CRITIC) + ["illegal"] * bool(entry.error)
    if isinstance(entry.content, str):
        inside = _words(entry, entry.content)
    else:
        picture = image(entry.content, f"{_name(entry)}, {where}")
        inside = tag("a", picture, class_="frame", id=anchor, href=f"#{anchor}")
        inside += tag("a", class_="close", href="#_", aria_label="close")
    error = tag("p", escaped(entry.error), class_="error") if entry.error else ""
    heading = tag("h3", escaped(_name(entry)) + _badge(entry))
    return tag("section", heading + inside + error + _terms(entry.terms), class_=" ".join(classes))


def _name(entry: Entry) -> str:
    if entry.outside:
        return "words from outside" if entry.source == CRITIC else "given canvas"
    stage = entry.stage.name.lower()
    return stage if entry.source == "policy" else f"{stage} by {entry.source}"


def _badge(entry: Entry) -> str:
    if entry.error:
        return tag("span", "illegal", class_="badge bad")
    if entry.stage is not Stage.INSPECT or entry.outside:
        return ""
    try:
        refine = parse_inspection(str(entry.content)).refine
    except ValueError:  # in records made elsewhere
        return ""
    words, kind = ("stands", "good") if refine is None else ("to be mended", "ask")
    return tag("span", words, class_=f"badge {kind}")


def _words(entry: Entry, text: str) -> str:
    if entry.outside and not entry.error:
        return tag("p", escaped(text), dir="auto")
    try:
        if entry.stage is Stage.PLAN and not entry.error:
            return _plan(parse_plan(text))
        if entry.stage is Stage.INSPECT and not entry.error:
            return _inspection(parse_inspection(text))
    except ValueError:  # in records made elsewhere
        pass
    return tag("pre", escaped(text), dir="auto") if text else ""


def _plan(plan: Plan) -> str:
    rows = (("to do", plan.ins), ("then the scene is", plan.des))
    parts = (tag("div", tag("dt", name) + tag("dd", escaped(words), dir="auto")) for name, words in rows)
    return tag("dl", "".join(parts), class_="says")


def _inspection(inspection: Inspection) -> str:
    comment, refine = tag("p", escaped(inspection.comment), dir="auto"), inspection.refine
    return comment if refine is None else comment + tag("p", escaped(refine), class_="refinement", dir="auto")


def _terms(terms: Mapping[str, float | None]) -> str:
    rows = []
    for name, value in terms.items():
        bar = tag("i", style=f"--value:{value:.3f}") if value is not None and 0 <= value <= 1 else ""
        rows.append(tag("span", escaped(name)) + tag("b", number(value)) + bar)
    return listed("terms", rows) if rows else ""
