"""Transcripts as one self-contained HTML page: the film of each drawing, round by round.

Every emission stands with its verdict, its reward terms and, where it was illegal, the reason. Everything
that a model or a person wrote is escaped, nothing is loaded, and the page runs no script.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .cards import card, escaped, image, listed, number, tag
from .page import PAGE, STYLE
from .protocols import Cost
from .transcript import Transcript

EXTREMES = 3
"""How many of the best and of the worst come before the rest."""
THUMBNAIL = 208
"""Longest side of the pictures of the overview, twice what is shown, for dense screens."""


def write_report(
    transcripts: Sequence[Transcript],
    path: str | Path,
    *,
    title: str = "",
    policy: str = "",
    costs: Sequence[Cost] = (),
    limit: int = 100,
) -> None:
    """Write the page; see ``render_report``. The folder is created where it is missing."""
    path = Path(path)
    page = render_report(transcripts, title=title, policy=policy, costs=costs, limit=limit)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def render_report(
    transcripts: Sequence[Transcript],
    *,
    title: str = "",
    policy: str = "",
    costs: Sequence[Cost] = (),
    limit: int = 100,
) -> str:
    """The page as a string.

    Args:
        transcripts: What to show. Where there are many, the best and the worst come first, then the rest by
            score, those without a verdict last.
        title: Heading; by default the prompt of a single drawing, or how many there are.
        policy: Who drew.
        costs: What each drawing cost, in the order of ``transcripts``; none at all where it is not known.
        limit: Most drawings on the page; the middle is left out beyond it, and the page says so. 100 drawings
            of six images at 48 px are 3 MB, at 1024 px 1 GB.
    """
    if not transcripts:
        raise ValueError("Expected at least one transcript, got none.")
    if costs and len(costs) != len(transcripts):
        raise ValueError(f"Expected {len(transcripts)} costs, one per transcript, got {len(costs)}.")
    kinds = _kinds(transcripts, limit)
    shown = [k for _, numbers in kinds for k in numbers]
    if len(transcripts) == 1:
        title = title or transcripts[0].prompt
        facts, body = _facts(transcripts[0], policy, costs[0] if costs else None), [_film(transcripts[0], 0)]
        final = "" if transcripts[0].canvas is None else image(transcripts[0].canvas, "the final canvas")
    else:
        title = title or f"{len(transcripts)} drawings"
        facts, body, final = _facts_of_all(transcripts, policy, costs), [_overview(transcripts, shown)], ""
        for name, numbers in kinds:
            body.append(tag("h3", name, class_="kind") if name else "")
            for k in numbers:
                body.append(_drawing(transcripts[k], k, costs[k] if costs else None, is_open=name in ("", "Best")))
    left_out = len(transcripts) - len(shown)
    note = f"{left_out} drawings in between are left out. " if left_out else ""
    heading = tag("p", "strokes", class_="brand") + tag("h1", escaped(title), dir="auto") + listed("facts", facts)
    header = tag("header", tag("div", heading) + final, class_="hero")
    footer = tag("footer", f"{note}Plan, sketch, inspect, refine. Click a picture to enlarge it.")
    return PAGE.substitute(title=escaped(title), style=STYLE, body="\n".join([header, *body, footer]))


def _kinds(transcripts: Sequence[Transcript], limit: int) -> list[tuple[str, list[int]]]:
    """Indices of the drawings to show, under their headings."""
    if limit < 2 * EXTREMES:
        raise ValueError(f"Expected a `limit` of at least {2 * EXTREMES}, got {limit}.")
    scores = {k: t.score for k, t in enumerate(transcripts) if t.score is not None}
    judged = sorted(scores, key=lambda k: (-scores[k], k))
    unjudged = [k for k in range(len(transcripts)) if k not in scores]
    if len(judged) <= 2 * EXTREMES:
        return [("", (judged + unjudged)[:limit])]
    best, middle, worst = judged[:EXTREMES], judged[EXTREMES:-EXTREMES], judged[-EXTREMES:][::-1]
    rest = (middle + unjudged)[: limit - 2 * EXTREMES]
    return [("Best", best), ("Worst", worst), *([("The rest", rest)] if rest else [])]


def _overview(transcripts: Sequence[Transcript], numbers: Sequence[int]) -> str:
    links = []
    for k in numbers:
        canvas, prompt = transcripts[k].canvas, transcripts[k].prompt
        picture = image(np.full((16, 16, 3), 235, np.uint8) if canvas is None else canvas, prompt, THUMBNAIL)
        label = tag("span", f"{k + 1}{tag('b', number(transcripts[k].score))}")
        links.append(tag("a", picture + label, href=f"#d{k}", title=prompt))
    return tag("nav", "".join(links), class_="overview")


def _drawing(transcript: Transcript, k: int, cost: Cost | None, *, is_open: bool) -> str:
    heading = tag("h2", f"{escaped(transcript.prompt)}", dir="auto") + listed("facts", _facts(transcript, "", cost))
    details = tag("details", tag("summary", heading) + _film(transcript, k), class_="drawing", id=f"d{k}")
    return details.replace("<details", "<details open", 1) if is_open else details


def _film(transcript: Transcript, k: int) -> str:
    """The rounds of a drawing, one strip each."""
    strips, index = [], 0
    for r, entries in enumerate(transcript.rounds, 1):
        cards = []
        for entry in entries:
            cards.append(card(entry, f"d{k}e{index}", f"round {r}"))
            index += 1
        strip = tag("h3", f"Round {r}") + tag("div", "".join(cards), class_="strip")
        strips.append(tag("section", strip, class_="round"))
    return "".join(strips) or tag("p", "Nothing was drawn.", class_="error")


def _facts(transcript: Transcript, policy: str, cost: Cost | None) -> list[str]:
    illegal = sum(bool(entry.error) for entry in transcript.emissions)
    facts = [
        "not judged" if transcript.score is None else f"score {tag('b', number(transcript.score))}",
        f"by {tag('b', escaped(policy))}" if policy else "",
        f"{_counted(len(transcript.images), 'image')} in {_counted(len(transcript.rounds), 'round')}",
        f"{tag('b', str(illegal))} illegal" if illegal else "",
        f"ended by {tag('b', transcript.ended)}" if transcript.ended else "unfinished",
        f"{tag('b', str(transcript.size))} px",
        "" if transcript.seed is None else f"seed {tag('b', str(transcript.seed))}",
        *_cost_facts(cost),
        f"id {tag('b', escaped(transcript.id))}" if transcript.id else "",
    ]
    return [fact for fact in facts if fact]


def _facts_of_all(transcripts: Sequence[Transcript], policy: str, costs: Sequence[Cost]) -> list[str]:
    scores = [t.score for t in transcripts if t.score is not None]
    errors = [bool(entry.error) for t in transcripts for entry in t.emissions]
    num_images = sum(len(t.images) for t in transcripts) / len(transcripts)
    mean = f"mean score {tag('b', f'{np.mean(scores):.3f}')} of {tag('b', str(len(scores)))} judged" if scores else ""
    facts = [
        mean or "not judged",
        f"by {tag('b', escaped(policy))}" if policy else "",
        f"{tag('b', f'{num_images:.1f}')} images per drawing",
        f"{tag('b', f'{sum(errors) / max(len(errors), 1):.1%}')} of emissions illegal",
        *_cost_facts(sum(costs, Cost()) if costs else None),
    ]
    return [fact for fact in facts if fact]


def _cost_facts(cost: Cost | None) -> list[str]:
    if cost is None:
        return []
    counts = {"sampling step": cost.steps, "network evaluation": cost.nfe, "token": cost.tokens, "call": cost.calls}
    facts = [_counted(count, name) for name, count in counts.items() if count]
    return [*facts, f"{tag('b', f'{cost.seconds:.1f}')} s"] if cost.seconds else facts


def _counted(count: int, name: str) -> str:
    return f"{tag('b', f'{count:,}')} {name}{'' if count == 1 else 's'}"
