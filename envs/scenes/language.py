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

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .changes import Edit, Fault, Thing
from .graph import RELATIONS, Edge, Graph, Node
from .layout import PLACES, feasible
from .render import COLORS, SHAPES
from .words import BLOT, NUMBERS, Cursor, listed, phrase, plural

NOT_JUDGED = "the prompt is not judged"
"""What is said of a prompt outside the language."""
_EMPTY = "nothing"
_GRAMMAR_WORDS = (
    "a an the and of at to with as for is not does drawing add change replace remove move swap redraw placeholder "
    "sketch plan prompt follows shows lacks asks breaks drops extra instead still missing complete judged nothing"
)


@dataclass(frozen=True, slots=True)
class Report:
    """What an inspection says."""

    faults: tuple[Fault, ...] = ()
    """Empty: the sketch follows the plan."""
    complete: bool = False
    """The prompt is fulfilled: the drawing may end."""
    missing: Graph | None = None
    """What is still to be added, where it says so."""
    pending: tuple[Thing, ...] = ()
    """Placeholders that are still to be changed, moved or removed."""
    judged: bool = True
    """False: the prompt is outside the language."""


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


def describe(graph: Graph) -> str:
    """A graph in words: its nodes in order, relations where their first end is named."""
    placed = {edge.src: edge for edge in graph.edges}
    named: set[int] = set()
    items = []
    for node in graph.nodes:
        edge = placed.get(node.id)
        if node.id in named and edge is None:
            continue
        words = _name(node, named)
        if edge is not None:
            words = f"{words} {edge.rel} {_name(graph.node(edge.dst), named)}"
        items.append(words)
    return listed(items, comma=bool(graph.edges)) or _EMPTY


def _name(node: Node, named: set[int]) -> str:
    definite = node.id in named
    named.add(node.id)
    return phrase(node.shape, node.color, node.count, definite)


def parse(text: str) -> Graph:
    """The graph of a prompt or description.

    Tolerates capitals, a final period, "a drawing of", "the" for "a", digits, and "to the left of".

    Raises:
        ValueError: The text is outside the language; the message names the phrase.
    """
    cursor = Cursor(text)
    if cursor.take(_EMPTY):
        cursor.end()
        return Graph(())
    _ = cursor.take("a drawing of") or cursor.take("drawing of")
    graph = _graph(cursor)
    cursor.end()
    return graph


def _graph(cursor: Cursor) -> Graph:
    nodes: list[Node] = []
    edges: list[Edge] = []
    while True:
        before = cursor.at
        src, known = _mention(cursor, nodes)
        rel = cursor.relation()
        if rel is not None:
            edges.append(Edge(src, rel, _mention(cursor, nodes)[0]))
        elif known:
            cursor.at = before
            raise cursor.error("an object that was not named before")
        if not cursor.comma():
            return Graph(tuple(nodes), tuple(edges))


def _mention(cursor: Cursor, nodes: list[Node]) -> tuple[int, bool]:
    """The id of the node that comes next, and whether it was named before."""
    node, definite = cursor.item()
    for other in nodes:
        same = (other.shape, other.count) == (node.shape, node.count)
        if same and (other.color == node.color or (definite and node.color is None)):
            return other.id, True
    nodes.append(replace(node, id=len(nodes)))
    return nodes[-1].id, False


def describe_edits(edits: Iterable[Edit]) -> str:
    """Edits as an instruction; additions in a row are one clause."""
    clauses: list[tuple[bool, list[str]]] = []
    last = ""
    for edit in edits:
        if edit.kind == "add" and last == "add" and clauses[-1][0] == edit.placeholder:
            clauses[-1][1].append(_placed(edit.thing))
        else:
            clauses.append((edit.placeholder, [_clause(edit)]))
        last = edit.kind
    return "; ".join(("as a placeholder, " if held else "") + listed(parts) for held, parts in clauses)


def _placed(thing: Thing, definite: bool = False) -> str:
    words = phrase(thing.shape, thing.color, definite=definite)
    return words if thing.cell is None else f"{words} at the {PLACES[thing.cell]}"


def _clause(edit: Edit) -> str:
    if edit.kind == "add":
        return f"add {_placed(edit.thing)}"
    there = f"{edit.kind} {_placed(edit.thing, definite=True)}"
    if edit.new is None:
        return there
    if edit.kind == "change":
        return f"{there} to {edit.new.color}"
    if edit.kind == "replace":
        return f"{there} with {phrase(edit.new.shape, edit.new.color)}"
    if edit.kind == "move":
        return f"{there} to the {PLACES[edit.new.cell or 0]}"
    return f"{there} and {_placed(edit.new, definite=True)}"


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


def _thing(cursor: Cursor) -> Thing:
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
    edits = [Edit("add", _thing(cursor))]
    while cursor.comma():
        edits.append(Edit("add", _thing(cursor)))
    return edits


def _read_change(cursor: Cursor) -> list[Edit]:
    thing = _thing(cursor)
    cursor.need("to")
    color = next((color for color in COLORS if cursor.take(color)), None)
    if color is None:
        raise cursor.error("a colour")
    return [Edit("change", thing, replace(thing, color=color))]


def _read_replace(cursor: Cursor) -> list[Edit]:
    thing = _thing(cursor)
    cursor.need("with")
    return [Edit("replace", thing, replace(_thing(cursor), cell=thing.cell))]


def _read_move(cursor: Cursor) -> list[Edit]:
    thing = _thing(cursor)
    cursor.need("to")
    return [Edit("move", thing, replace(thing, cell=cursor.cell()))]


def _read_swap(cursor: Cursor) -> list[Edit]:
    thing = _thing(cursor)
    cursor.need("and")
    return [Edit("swap", thing, _thing(cursor))]


_READERS = {
    "add": _read_add,
    "change": _read_change,
    "replace": _read_replace,
    "remove": lambda cursor: [Edit("remove", _thing(cursor))],
    "move": _read_move,
    "swap": _read_swap,
    "redraw": lambda cursor: [Edit("redraw", _thing(cursor))],
}


def describe_report(report: Report) -> str:
    """An inspection's comment."""
    if not report.judged:
        return NOT_JUDGED
    if report.faults:
        return "; ".join(_fault(fault) for fault in report.faults)
    if report.complete:
        return "the sketch follows the plan and the prompt is complete"
    words = "the sketch follows the plan"
    if report.missing is not None and report.missing.nodes:
        words += f"; still missing: {describe(report.missing)}"
    if report.pending:
        words += f"; still to change: {listed([_placed(thing) for thing in report.pending])}"
    return words


def _fault(fault: Fault) -> str:
    seen, wanted = fault.seen, fault.wanted
    if fault.kind == "broken" and fault.relation is not None:
        return f"the plan breaks {describe(fault.relation)}"
    if fault.kind == "unasked" and seen is not None:
        return f"the plan asks for {_placed(seen)}, the prompt does not"
    if fault.kind == "extra" and seen is not None:
        words = _placed(seen)
        return f"the sketch shows an extra {words.split(' ', 1)[1]}"
    assert wanted is not None, fault
    if fault.kind == "dropped":
        return f"the plan drops {_placed(wanted)}"
    if fault.kind == "missing":
        return f"the sketch lacks {_placed(wanted)}"
    assert seen is not None, fault
    other = f"the {PLACES[wanted.cell or 0]}" if fault.kind == "misplaced" else phrase(wanted.shape, wanted.color)
    return f"the sketch shows {_placed(seen)} instead of {other}"


def parse_report(text: str) -> Report:
    """What an inspection's comment says; ``ValueError`` names the phrase that is not understood."""
    cursor = Cursor(text)
    if cursor.take(NOT_JUDGED):
        cursor.end()
        return Report(judged=False)
    if cursor.take("the sketch follows the plan"):
        report = _read_consistent(cursor)
    else:
        faults = [_read_fault(cursor)]
        while cursor.take(";"):
            faults.append(_read_fault(cursor))
        report = Report(faults=tuple(faults))
    cursor.end()
    return report


def _read_consistent(cursor: Cursor) -> Report:
    if cursor.take("and the prompt is complete"):
        return Report(complete=True)
    missing, pending = None, list[Thing]()
    if cursor.take("; still missing :"):
        missing = _graph(cursor)
    if cursor.take("; still to change :"):
        pending.append(_thing(cursor))
        while cursor.comma():
            pending.append(_thing(cursor))
    return Report(missing=missing, pending=tuple(pending))


def _read_fault(cursor: Cursor) -> Fault:
    if cursor.take("the plan asks for"):
        thing = _thing(cursor)
        cursor.need(", the prompt does not")
        return Fault("unasked", thing)
    if cursor.take("the plan breaks"):
        nodes: list[Node] = []
        src, _ = _mention(cursor, nodes)
        rel = cursor.relation()
        if rel is None:
            raise cursor.error("a relation such as 'left of'")
        edge = Edge(src, rel, _mention(cursor, nodes)[0])
        return Fault("broken", relation=Graph(tuple(nodes), (edge,)))
    if cursor.take("the plan drops"):
        return Fault("dropped", wanted=_thing(cursor))
    if cursor.take("the sketch lacks"):
        return Fault("missing", wanted=_thing(cursor))
    if cursor.take("the sketch shows an extra"):
        cursor.at -= 1
        cursor.words[cursor.at] = "the"  # read on as "the red circle"
        return Fault("extra", _thing(cursor))
    cursor.need("the sketch shows")
    seen = _thing(cursor)
    cursor.need("instead of")
    return _read_instead(cursor, seen)


def _read_instead(cursor: Cursor, seen: Thing) -> Fault:
    start = cursor.at
    try:
        return Fault("misplaced", seen, replace(seen, cell=cursor.cell()))
    except ValueError:
        cursor.at = start
    wanted = replace(_thing(cursor), cell=seen.cell)
    return Fault("unclear" if seen.shape is None else "wrong", seen, wanted)
