"""Edits in words: ``<ins>`` and ``<refine>``, written and read exactly."""

from collections.abc import Iterable
from dataclasses import replace

from .changes import Edit, Thing
from .layout import PLACES
from .render import COLORS
from .words import BLOT, Cursor, listed, phrase


def describe_edits(edits: Iterable[Edit]) -> str:
    """Edits as an instruction; additions in a row are one clause."""
    clauses: list[tuple[bool, list[str]]] = []
    last = ""
    for edit in edits:
        if edit.kind == "add" and last == "add" and clauses[-1][0] == edit.placeholder:
            clauses[-1][1].append(placed(edit.thing))
        else:
            clauses.append((edit.placeholder, [_clause(edit)]))
        last = edit.kind
    return "; ".join(("as a placeholder, " if held else "") + listed(parts) for held, parts in clauses)


def placed(thing: Thing, definite: bool = False) -> str:
    """ "a red circle at the left"."""
    words = phrase(thing.shape, thing.color, definite=definite)
    return words if thing.cell is None else f"{words} at the {PLACES[thing.cell]}"


def _clause(edit: Edit) -> str:
    if edit.kind == "add":
        return f"add {placed(edit.thing)}"
    there = f"{edit.kind} {placed(edit.thing, definite=True)}"
    if edit.new is None:
        return there
    if edit.kind == "change":
        return f"{there} to {edit.new.color}"
    if edit.kind == "replace":
        return f"{there} with {phrase(edit.new.shape, edit.new.color)}"
    if edit.kind == "move":
        return f"{there} to the {PLACES[edit.new.cell or 0]}"
    return f"{there} and {placed(edit.new, definite=True)}"


def parse_edits(text: str) -> tuple[Edit, ...]:
    """The edits of an instruction or a correction; ``ValueError`` names the phrase that is not understood."""
    cursor, edits = Cursor(text), list[Edit]()
    while True:
        held = cursor.take("as a placeholder ,")
        kind = next((kind for kind in _READERS if cursor.take(kind)), None)
        if kind is None:
            raise cursor.error("an edit such as 'add a red circle at the left'")
        edits += [replace(edit, placeholder=held) for edit in _READERS[kind](cursor)]
        if not cursor.take(";"):
            cursor.end()
            return tuple(edits)


def read_thing(cursor: Cursor) -> Thing:
    """Read one object, with its place where that is said."""
    start = cursor.at
    if (cursor.take("a") or cursor.take("the")) and cursor.take(BLOT):
        shape, color = None, None
    else:
        cursor.at = start
        node, _ = cursor.item()
        if node.count != 1:
            cursor.at = start
            raise cursor.error("one object at a time")
        shape, color = node.shape, node.color
    return Thing(shape, color, cursor.cell() if cursor.take("at") else None)


def _read_add(cursor: Cursor) -> list[Edit]:
    edits = [Edit("add", read_thing(cursor))]
    while cursor.comma():
        edits.append(Edit("add", read_thing(cursor)))
    return edits


def _read_change(cursor: Cursor) -> list[Edit]:
    thing = read_thing(cursor)
    cursor.need("to")
    color = next((color for color in COLORS if cursor.take(color)), None)
    if color is None:
        raise cursor.error("a colour")
    return [Edit("change", thing, replace(thing, color=color))]


def _read_replace(cursor: Cursor) -> list[Edit]:
    thing = read_thing(cursor)
    cursor.need("with")
    return [Edit("replace", thing, replace(read_thing(cursor), cell=thing.cell))]


def _read_move(cursor: Cursor) -> list[Edit]:
    thing = read_thing(cursor)
    cursor.need("to")
    return [Edit("move", thing, replace(thing, cell=cursor.cell()))]


def _read_swap(cursor: Cursor) -> list[Edit]:
    thing = read_thing(cursor)
    cursor.need("and")
    return [Edit("swap", thing, read_thing(cursor))]


_READERS = {
    "add": _read_add,
    "change": _read_change,
    "replace": _read_replace,
    "remove": lambda cursor: [Edit("remove", read_thing(cursor))],
    "move": _read_move,
    "swap": _read_swap,
    "redraw": lambda cursor: [Edit("redraw", read_thing(cursor))],
}
