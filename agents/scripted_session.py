"""What the scripted painter keeps in mind of one canvas: what it drew, and the scene it works towards."""

import functools
import hashlib
from collections.abc import Sequence

import numpy as np

from ..envs.markup import parse_plan
from ..envs.scenes.changes import Edit, Thing, apply, assign
from ..envs.scenes.graph import Graph
from ..envs.scenes.language import parse, parse_edits, supported
from ..envs.scenes.layout import sample_layout
from ..envs.scenes.render import Object
from ..envs.stages import Stage
from ..envs.transcript import Transcript
from .brush import Canvas, mark, see, things


class ScriptedSession:
    """One canvas in the painter's hands.

    Args:
        transcript: Read, never written.
        size: Side of the canvas in pixels.
        rng: The only source of randomness.
    """

    def __init__(self, transcript: Transcript, size: int, rng: np.random.Generator) -> None:
        self.transcript, self.size, self.rng = transcript, size, rng
        self.graph: Graph | None = parse(transcript.prompt) if supported(transcript.prompt) else None
        self.target: tuple[Object, ...] | None = None
        self.memory: dict[bytes, Canvas] = {_key(np.empty(0)): ()}
        self.is_foreign = False

    def canvas(self, image: np.ndarray | None) -> Canvas:
        """What an image shows: from memory if this session drew it, else from the detector."""
        key = _key(np.empty(0) if image is None else image)
        if key not in self.memory:
            assert image is not None
            self.memory[key] = see(image)
            self.target = None  # somebody else drew: think again
            self.is_foreign = True
        return self.memory[key]

    def remember(self, image: np.ndarray, canvas: Canvas) -> np.ndarray:
        """Keep in mind what an image shows, drawn just now."""
        self.memory[_key(image)] = canvas
        if self.is_foreign:
            self.target = None  # it was laid out around somebody else's drawing, faults included
            self.is_foreign = False
        return image

    def aim(self, canvas: Canvas) -> tuple[Object, ...]:
        """The scene this session works towards, in reading order; laid out around what is there."""
        if self.target is None:
            assert self.graph is not None
            self.target = _laid_out(self.graph, canvas, self.placeholders(), self.rng, self.size)
        return self.target

    def aimed(self, canvas: Canvas) -> tuple[Thing, ...]:
        """The state this session works towards."""
        return things([mark(item, self.size) for item in self.aim(canvas)])

    def placeholders(self) -> tuple[Thing, ...]:
        """Things announced as placeholders and not changed since."""
        held: list[Thing] = []
        for entry in self.transcript.accepted:
            if entry.stage is not Stage.PLAN:
                continue
            for edit in edits_of(parse_plan(str(entry.content)).ins) or ():
                held = [thing for thing in held if thing not in (edit.thing, edit.new)]
                if edit.placeholder:
                    held.append(edit.thing)
        return tuple(held)


def _key(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()


@functools.lru_cache(4096)  # each instruction is read five times in a row
def edits_of(text: str | None) -> tuple[Edit, ...] | None:
    """The edits of an instruction, ``None`` where it is outside the language."""
    try:
        return parse_edits(text or "")
    except ValueError:
        return None


def _laid_out(
    graph: Graph, canvas: Canvas, placeholders: Sequence[Thing], rng: np.random.Generator, size: int
) -> tuple[Object, ...]:
    """A satisfying scene that keeps as much of a canvas as it can."""
    solid = [each for each in canvas if each.item is not None and each.thing not in placeholders]
    taken, _ = assign(things(solid), graph)
    related = {end for edge in graph.edges for end in (edge.src, edge.dst)}
    kept = [(solid[k].item, id) for k, id in taken.items()]
    spare = [each.thing.cell for each in canvas if each.item not in [item for item, _ in kept]]
    cells = [cell for cell in spare if cell is not None]
    for attempt in (kept, [(item, id) for item, id in kept if id not in related], []):
        if len({mark(item, size).thing.cell for item, _ in attempt if item}) < len(attempt):
            continue  # two in one cell
        try:
            fixed = [(item, id) for item, id in attempt if item is not None]
            return sample_layout(graph, rng, size, kept=fixed, prefer=cells).scene.objects
        except ValueError:
            continue
    raise AssertionError(f"no layout for {graph!r}")


def applicable(state: Sequence[Thing], edits: Sequence[Edit] | None) -> Sequence[Edit]:
    """The edits, or none if one of them names what is not there or asks for a blot, which nobody can draw."""
    for edit in edits or ():
        before = state
        try:
            state = apply(before, [edit])
        except ValueError:
            return ()
        if any(thing.shape is None and thing not in before for thing in state):
            return ()
    return edits or ()
