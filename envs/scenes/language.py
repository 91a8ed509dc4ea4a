"""The controlled language: prompts and descriptions, plans and inspections, written and read exactly.

Every ``describe_*`` is undone by its ``parse_*``, and what is written stays short and lower-case, so that a
small model can learn it. After a sketch the third word decides: "the sketch follows …" or "the sketch shows …".

    prompt, <des>   a red circle left of a blue square, and two green stars
    <ins>           add a red circle at the left and a blue square at the center
                    as a placeholder, add a pink moon at the top; remove the green star at the right
                    change the blue circle at the left to red; redraw the red circle at the left
                    replace the red star at the top with a red moon; move the red moon at the top to the left
                    swap the red circle at the left and the blue square at the center
    inspection      the sketch follows the plan; still missing: two green stars
                    the sketch follows the plan and the prompt is complete
                    the sketch shows a blue circle at the left instead of a red circle; the sketch lacks …
                    the plan asks for a red star, the prompt does not
"""

from .descriptions import describe, parse
from .graph import RELATIONS
from .inspections import NOT_JUDGED, Report, describe_report, parse_report
from .instructions import describe_edits, parse_edits
from .layout import PLACES, feasible
from .render import COLORS, SHAPES
from .words import BLOT, NUMBERS, plural

_GRAMMAR_WORDS = (
    "a an the and of at to with as for is not does drawing add change replace remove move swap redraw placeholder "
    "sketch plan prompt follows shows lacks asks breaks drops extra instead still missing complete judged nothing"
)


def vocabulary() -> tuple[str, ...]:
    """Every word and mark the language can emit, sorted."""
    names = " ".join((*SHAPES, *map(plural, SHAPES), *COLORS, *NUMBERS[1:], *PLACES, *RELATIONS, BLOT, _GRAMMAR_WORDS))
    return tuple(sorted({*names.split(), ",", ";", ":"}))


VOCABULARY = vocabulary()


def supported(prompt: str) -> bool:
    """Whether a prompt is in the language and fits on a canvas; what is not is drawn anyway, but not judged."""
    try:
        return feasible(parse(prompt))
    except ValueError:
        return False


__all__ = [
    "NOT_JUDGED", "VOCABULARY", "Report", "describe", "describe_edits", "describe_report", "parse", "parse_edits",
    "parse_report", "supported", "vocabulary",
]  # fmt: skip
