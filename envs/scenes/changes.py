"""Things in places, edits of them, and what differs between two states of a canvas.

A state is a tuple of things in reading order. ``apply`` says how a state looks after a plan, ``compare`` what
a sketch got wrong, ``repairs`` which edits put it right. ``language`` reads and writes all of them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from .graph import Graph, Node
from .layout import cell_of, cells_hold
from .render import Scene

EDITS = ("add", "change", "replace", "remove", "move", "swap", "redraw")
FAULTS = ("wrong", "unclear", "missing", "extra", "misplaced", "unasked", "broken", "dropped")
"""What an inspection can find: five faults of a sketch, then three of a plan."""


@dataclass(frozen=True, slots=True, order=True)
class Thing:
    """An object as words name it."""

    shape: str | None
    """``None``: a blot, something that is no shape of the world."""
    color: str | None = None
    """``None``: not said."""
    cell: int | None = None
    """Cell 0 … 8 (``PLACES``); ``None``: not said."""

    def fits(self, node: Node) -> bool:
        """Whether the thing can be one of a node's objects."""
        return self.shape == node.shape and node.color in (None, self.color)

    def matches(self, other: "Thing") -> bool:
        """Whether nothing that both say differs."""
        pairs = ((self.color, other.color), (self.cell, other.cell))
        return self.shape == other.shape and all(a is None or b is None or a == b for a, b in pairs)


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a canvas."""

    kind: str
    """One of ``EDITS``."""
    thing: Thing
    """What is added (its cell is where), or what is there and gets changed."""
    new: Thing | None = None
    """What it becomes (change, replace), where it goes (move) or what it swaps with (swap)."""
    placeholder: bool = False
    """A detour announced as such: it contradicts the prompt for now, on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing an inspection finds."""

    kind: str
    """One of ``FAULTS``."""
    seen: Thing | None = None
    """What is there (wrong, unclear, extra, misplaced, unasked)."""
    wanted: Thing | None = None
    """What should be there (wrong, unclear, missing, misplaced, dropped)."""
    relation: Graph | None = None
    """The broken relation, as a graph of two objects."""


def things_of(scene: Scene) -> tuple[Thing, ...]:
    """The state of a canvas in reading order."""
    return tuple(sorted_things(Thing(o.shape, o.color, cell_of(o.x, o.y, scene.size)) for o in scene.objects))


def sorted_things(things: Iterable[Thing]) -> list[Thing]:
    """Things in reading order; equal cells and unknown places keep their order."""
    return sorted(things, key=lambda thing: 9 if thing.cell is None else thing.cell)


def graph_of(scene: Scene | Sequence[Thing]) -> Graph:
    """The graph without relations of what is on a canvas: equal objects are one node, in reading order.

    Raises:
        ValueError: A thing is a blot, or has no colour beside another of its shape.
    """
    things = things_of(scene) if isinstance(scene, Scene) else scene
    counts = Counter((thing.shape, thing.color) for thing in things)
    if any(shape is None for shape, _ in counts):
        raise ValueError(f"Expected shapes of the world, got a blot in {list(things)!r}.")
    nodes = enumerate(counts.items())
    return Graph(tuple(Node(k, str(shape), color, count) for k, ((shape, color), count) in nodes))


def find(things: Sequence[Thing], named: Thing) -> int:
    """Index of the first thing that fits a name; ``ValueError`` if there is none."""
    for k, thing in enumerate(things):
        if thing.matches(named):
            return k
    raise ValueError(f"Expected something that is on the canvas, got {named!r}.")


def apply(things: Sequence[Thing], edits: Iterable[Edit]) -> tuple[Thing, ...]:
    """The state after edits one by one, in reading order; ``ValueError`` where one names what is not there."""
    state = sorted_things(things)
    for edit in edits:
        state = sorted_things(_applied(state, edit))
    return tuple(state)


def _applied(state: list[Thing], edit: Edit) -> list[Thing]:
    if edit.kind == "add":
        return [*state, edit.thing]
    if edit.kind == "redraw":
        kept = [thing for thing in state if not (thing.cell == edit.thing.cell and thing.shape is None)]
        return kept if any(thing.matches(edit.thing) for thing in kept) else [*kept, edit.thing]
    k = find(state, edit.thing)
    before, there, behind = state[:k], state[k], state[k + 1 :]
    if edit.kind == "remove":
        return [*before, *behind]
    assert edit.new is not None, edit
    if edit.kind == "swap":
        other = find(state, edit.new)
        swapped = [*before, replace(there, cell=state[other].cell), *behind]
        return [*swapped[:other], replace(state[other], cell=there.cell), *swapped[other + 1 :]]
    if edit.kind == "move":
        return [*before, replace(there, cell=edit.new.cell), *behind]
    return [*before, replace(there, shape=edit.new.shape, color=edit.new.color), *behind]


def compare(seen: Sequence[Thing], wanted: Sequence[Thing]) -> tuple[Fault, ...]:
    """What a sketch got wrong, in reading order of the places concerned.

    Equal things in equal places are right. What is left is paired: first a wanted thing that is seen elsewhere
    (misplaced), then different things in one place (wrong, or unclear for a blot); the rest is missing or extra.
    """
    left, lacking = list(seen), []
    for thing in wanted:
        if thing in left:
            left.remove(thing)
        else:
            lacking.append(thing)
    faults = []
    for thing in list(lacking):
        for other in left:
            same = (other.shape, other.color) == (thing.shape, thing.color)
            if same and other.cell != thing.cell and None not in (other.cell, thing.cell):
                faults.append(Fault("misplaced", other, thing))
                left.remove(other)
                lacking.remove(thing)
                break
    for thing in list(lacking):
        here = next((other for other in left if other.cell == thing.cell), None)
        if here is not None:
            faults.append(Fault("unclear" if here.shape is None else "wrong", here, thing))
            left.remove(here)
            lacking.remove(thing)
    faults += [Fault("missing", wanted=thing) for thing in lacking] + [Fault("extra", thing) for thing in left]
    return tuple(sorted(faults, key=_where))


def filled(wanted: Sequence[Thing], seen: Sequence[Thing]) -> tuple[Thing, ...]:
    """Wanted things with open colours and places taken from what is seen: what leaves them open is met by any."""
    left, result = list(seen), list[Thing]()
    for thing in sorted(wanted, key=lambda each: (each.cell is None) + (each.color is None)):
        other = next((each for each in left if thing.matches(each)), None)
        if other is not None:
            left.remove(other)
        result.append(thing if other is None else other)
    return tuple(result)


def _where(fault: Fault) -> int:
    thing = fault.wanted or fault.seen
    return 9 if thing is None or thing.cell is None else thing.cell


def repairs(faults: Iterable[Fault]) -> tuple[Edit, ...]:
    """The edits that put faults of a sketch right, in an order in which they can be carried out."""
    edits: list[Edit] = []
    moves = [fault for fault in faults if fault.kind == "misplaced"]
    while moves:
        fault = moves.pop(0)
        assert fault.seen and fault.wanted
        back = next((m for m in moves if m.seen and m.wanted and m.seen.cell == fault.wanted.cell
                     and m.wanted.cell == fault.seen.cell), None)  # fmt: skip
        if back is not None:
            moves.remove(back)
            edits.append(Edit("swap", fault.seen, back.seen))
        else:
            edits.append(Edit("move", fault.seen, fault.wanted))
    for fault in faults:
        seen, wanted = fault.seen, fault.wanted
        if fault.kind == "wrong" and seen and wanted:
            edits.append(Edit("change" if seen.shape == wanted.shape else "replace", seen, wanted))
        elif fault.kind == "unclear" and wanted:
            edits.append(Edit("redraw", wanted))
        elif fault.kind == "missing" and wanted:
            edits.append(Edit("add", wanted))
        elif fault.kind == "extra" and seen:
            edits.append(Edit("remove", seen))
    order = {"remove": 0, "swap": 1, "move": 1, "change": 2, "replace": 2, "redraw": 2, "add": 3}
    return tuple(sorted(edits, key=lambda edit: order[edit.kind]))


def assign(things: Sequence[Thing], graph: Graph) -> tuple[dict[int, int], list[int]]:
    """Which node each thing is an object of (index of the thing -> id), and the things that none asks for."""
    room = {node.id: node.count for node in graph.nodes}
    taken, spare = {}, []
    for k, thing in enumerate(things):
        node = next((node for node in graph.nodes if room[node.id] and thing.fits(node)), None)
        if node is None:
            spare.append(k)
        else:
            taken[k] = node.id
            room[node.id] -= 1
    return taken, spare


def missing(things: Sequence[Thing], graph: Graph) -> Graph:
    """What a graph asks for and the canvas does not have yet, without relations."""
    have = Counter(assign(things, graph)[0].values())
    left = (replace(node, count=node.count - have[node.id]) for node in graph.nodes if node.count > have[node.id])
    return Graph(tuple(left))


def broken(things: Sequence[Thing], graph: Graph) -> tuple[Graph, ...]:
    """Relations whose ends are both there and whose cells do not hold them, each as a graph of its two ends."""
    taken, _ = assign(things, graph)
    cell = {id: things[k].cell for k, id in taken.items()}
    result = []
    for edge in graph.edges:
        a, b = cell.get(edge.src), cell.get(edge.dst)
        if a is not None and b is not None and not cells_hold(edge.rel, a, b):
            result.append(graph.induced((edge.src, edge.dst)))
    return tuple(result)


def plan_faults(
    before: Sequence[Thing], after: Sequence[Thing], graph: Graph, placeholders: Sequence[Thing] = ()
) -> tuple[Fault, ...]:
    """Where a plan contradicts its prompt; what is merely not drawn yet is no fault.

    Args:
        before: The state before the plan.
        after: The state the plan describes.
        graph: What the prompt asks for.
        placeholders: Things announced as placeholders, which may contradict the prompt for now.
    """
    solid = [thing for thing in after if thing not in placeholders]
    unasked = [Fault("unasked", solid[k]) for k in assign(solid, graph)[1]]
    relations = [Fault("broken", relation=each) for each in broken(solid, graph)]
    lost = () if unasked else _lost(before, after, graph, placeholders)
    return (*unasked, *relations, *(Fault("dropped", wanted=thing) for thing in lost))


def _lost(
    before: Sequence[Thing], after: Sequence[Thing], graph: Graph, placeholders: Sequence[Thing]
) -> Iterator[Thing]:
    """What was right and is gone, of nodes that then have fewer: what makes way for another as good is no loss."""
    owner = {k: id for k, id in assign(before, graph)[0].items() if before[k] not in placeholders}
    fewer = Counter(owner.values()) - Counter(assign(after, graph)[0].values())
    kept = Counter((thing.shape, thing.color) for thing in after)
    for k, id in owner.items():
        name = (before[k].shape, before[k].color)
        if kept[name]:
            kept[name] -= 1
        elif fewer[id]:
            fewer[id] -= 1
            yield Thing(*name)
