"""Facts of the knowledge benchmark: colours, numbers and directions that nobody disputes.

Each has one of WISE's six categories. Left out are facts with more than one answer in the palette (autumn leaves,
the shades of litmus between red and blue, the iodine test); the shortest visible wavelength, violet, is "purple".
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that has a colour, or of which there is a number."""

    text: str
    """ "a ripe banana"; "strings on a violin"."""
    value: str | int
    """The colour it is, or how many there are."""
    category: str
    subcategory: str


class Direction(NamedTuple):
    """A way to say a relation."""

    text: str
    relation: str
    frame: str
    """What it is said of."""


def _colors(category: str, facts: dict[str, list[tuple[str, str]]]) -> tuple[Fact, ...]:
    return tuple(
        Fact(text=text, value=color, category=category, subcategory=subcategory)
        for subcategory, pairs in facts.items()
        for text, color in pairs
    )


def _counts(category: str, facts: dict[str, list[tuple[str, int]]]) -> tuple[Fact, ...]:
    return tuple(
        Fact(text=text, value=count, category=category, subcategory=subcategory)
        for subcategory, pairs in facts.items()
        for text, count in pairs
    )


COLOR_FACTS = (
    *_colors(
        "CULTURE",
        {
            "Life": [
                ("the traffic light that means stop", "red"),
                ("the traffic light that means go", "green"),
                ("the suit of spades on a playing card", "black"),
            ],
            "Flag": [("the disc on the flag of Japan", "red"), ("the stars on the flag of China", "yellow")],
            "Sports": [
                ("a Dutch national football shirt", "orange"),
                ("the jersey of the Tour de France leader", "yellow"),
                ("the jersey of the Giro d'Italia leader", "pink"),
            ],
            "Art": [("a Belgian Smurf's skin", "blue")],
        },
    ),
    *_colors(
        "TIME",
        {
            "Order": [("the traffic light that follows green", "yellow")],
            "Season": [("a maple leaf in early summer", "green")],
            "Day": [("a clear sky at noon", "blue"), ("a clear sky at midnight", "black")],
        },
    ),
    *_colors(
        "BIOLOGY",
        {
            "State": [
                ("a ripe banana", "yellow"),
                ("a ripe tomato", "red"),
                ("chlorophyll", "green"),
                ("a flamingo", "pink"),
                ("an aubergine's skin", "purple"),
                ("a carrot root", "orange"),
                ("a raven", "black"),
            ]
        },
    ),
    *_colors(
        "PHYSICS",
        {
            "Optics": [
                ("the visible light with the longest wavelength", "red"),
                ("the visible light with the shortest wavelength", "purple"),
                ("a mixture of blue and yellow paint", "green"),
                ("a mixture of red and yellow paint", "orange"),
                ("red light and green light added together", "yellow"),
                ("a body that absorbs all visible light", "black"),
            ]
        },
    ),
    *_colors(
        "CHEMISTRY",
        {
            "Solution": [
                ("litmus paper in lemon juice", "red"),
                ("litmus paper in soapy water", "blue"),
                ("phenolphthalein in a base", "pink"),
                ("copper sulfate solution", "blue"),
            ],
            "Combustion": [
                ("a sodium flame", "yellow"),
                ("a potassium flame", "purple"),
                ("a barium flame", "green"),
                ("soot", "black"),
            ],
        },
    ),
)
COUNT_FACTS = (
    *_counts(
        "CULTURE",
        {
            "Sports": [("rings on the Olympic flag", 5), ("players in a tennis singles match", 2)],
            "Art": [("strings on a violin", 4), ("musketeers in the title of Dumas's novel", 3)],
        },
    ),
    *_counts(
        "TIME",
        {
            "Calendar": [
                ("months in a quarter", 3),
                ("seasons in a temperate year", 4),
                ("weekend days in a week", 2),
            ],
            "Clock": [("hours from ten o'clock to three o'clock", 5)],
        },
    ),
    *_counts(
        "BIOLOGY",
        {
            "Animal": [
                ("legs of a spider", 8),
                ("legs of an insect", 6),
                ("chambers of a human heart", 4),
                ("arms of a common starfish", 5),
                ("toes of an ostrich foot", 2),
            ]
        },
    ),
    *_counts(
        "PHYSICS",
        {
            "Optics": [("primary colours of light", 3)],
            "Magnetism": [("poles of a bar magnet", 2)],
            "Mechanics": [("fundamental forces", 4)],
        },
    ),
    *_counts(
        "CHEMISTRY",
        {
            "Molecule": [
                ("hydrogen atoms in a water molecule", 2),
                ("carbon atoms in propane", 3),
                ("hydrogen atoms in methane", 4),
                ("carbon atoms in benzene", 6),
            ]
        },
    ),
)
MAP, CLOCK = "a map with north at the top", "a clock face"
DIRECTIONS = (
    Direction("north of", "above", MAP),
    Direction("south of", "below", MAP),
    Direction("east of", "right of", MAP),
    Direction("west of", "left of", MAP),
    Direction("at twelve o'clock from", "above", CLOCK),
    Direction("at three o'clock from", "right of", CLOCK),
    Direction("at six o'clock from", "below", CLOCK),
    Direction("at nine o'clock from", "left of", CLOCK),
)
MIRRORED = {"left of": "right of", "right of": "left of"}
"""What a relation becomes in a mirror."""
