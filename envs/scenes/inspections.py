"""Inspections in words: what follows the plan, what does not, and what is still to do."""

from dataclasses import dataclass, replace

from .changes import Fault, Thing
from .descriptions import describe, mention, read_graph
from .graph import Edge, Graph, Node
from .instructions import placed, read_thing
from .layout import PLACES
from .words import Cursor, listed, phrase

NOT_JUDGED = "the prompt is not judged"
"""What is said of a prompt outside the language."""


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
        words += f"; still to change: {listed([placed(thing) for thing in report.pending])}"
    return words


def _fault(fault: Fault) -> str:
    seen, wanted = fault.seen, fault.wanted
    if fault.kind == "broken" and fault.relation is not None:
        return f"the plan breaks {describe(fault.relation)}"
    if fault.kind == "unasked" and seen is not None:
        return f"the plan asks for {placed(seen)}, the prompt does not"
    if fault.kind == "extra" and seen is not None:
        words = placed(seen)
        return f"the sketch shows an extra {words.split(' ', 1)[1]}"
    assert wanted is not None, fault
    if fault.kind == "dropped":
        return f"the plan drops {placed(wanted)}"
    if fault.kind == "missing":
        return f"the sketch lacks {placed(wanted)}"
    assert seen is not None, fault
    other = f"the {PLACES[wanted.cell or 0]}" if fault.kind == "misplaced" else phrase(wanted.shape, wanted.color)
    return f"the sketch shows {placed(seen)} instead of {other}"


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
        missing = read_graph(cursor)
    if cursor.take("; still to change :"):
        pending.append(read_thing(cursor))
        while cursor.comma():
            pending.append(read_thing(cursor))
    return Report(missing=missing, pending=tuple(pending))


def _read_fault(cursor: Cursor) -> Fault:
    if cursor.take("the plan asks for"):
        thing = read_thing(cursor)
        cursor.need(", the prompt does not")
        return Fault("unasked", thing)
    if cursor.take("the plan breaks"):
        nodes: list[Node] = []
        src, _ = mention(cursor, nodes)
        rel = cursor.relation()
        if rel is None:
            raise cursor.error("a relation such as 'left of'")
        edge = Edge(src, rel, mention(cursor, nodes)[0])
        return Fault("broken", relation=Graph(tuple(nodes), (edge,)))
    if cursor.take("the plan drops"):
        return Fault("dropped", wanted=read_thing(cursor))
    if cursor.take("the sketch lacks"):
        return Fault("missing", wanted=read_thing(cursor))
    if cursor.take("the sketch shows an extra"):
        cursor.at -= 1
        cursor.words[cursor.at] = "the"  # read on as "the red circle"
        return Fault("extra", read_thing(cursor))
    cursor.need("the sketch shows")
    seen = read_thing(cursor)
    cursor.need("instead of")
    return _read_instead(cursor, seen)


def _read_instead(cursor: Cursor, seen: Thing) -> Fault:
    start = cursor.at
    try:
        return Fault("misplaced", seen, replace(seen, cell=cursor.cell()))
    except ValueError:
        cursor.at = start
    wanted = replace(read_thing(cursor), cell=seen.cell)
    return Fault("unclear" if seen.shape is None else "wrong", seen, wanted)
