"""Looks: what there was to see on the way of each drawing, and a judge's word on it; what a verifier learns from.

A look is an image of the process: a sketch, a refinement, the picture in the end, and, at chosen steps of the flow, the
estimate x_t - t·v of what an image is heading for (in PARM, whose sampler knows all tokens at every step, the current
image). A judge says of each whether it can be read, and whether anything on it contradicts the prompt; and of the last
one whether it is right.

The looks of a chunk of drawings are one parquet file, written whole before the judge is asked, and once more with his
verdicts. So nothing is drawn twice, and nothing is asked twice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..agents.rollout import Episode, Rules, rollout
from ..agents.trajectory import Trajectory
from ..envs.archive import encode_png
from ..envs.files import replacing
from ..envs.protocols import Look, Policy, Session, Verifier, VerifierQuestion, Watchable

FINISHED = 0
"""Stands for a whole image among sampling steps, which are counted from 1."""
SECONDS = b"seconds"
"""Name of a chunk's time among what its file says of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One look, and what the judge said of it; ``None``: not asked, or no verdict."""

    drawing: str
    """Id of its drawing."""
    prompt: str
    meta: Mapping[str, Any]
    """What judges need to know of the task."""
    emission: int
    """Number of the image among the emissions."""
    step: int
    """Sampling step after which the image was estimated; ``FINISHED``: the image itself."""
    is_last: bool
    """Whether it is the picture in the end."""
    painter: str = ""
    """Who drew it, in one go or in strokes; "": not told."""
    is_readable: bool | None = None
    """The judge's word on "clarity"."""
    fits: bool | None = None
    """On "potential"."""
    is_right: bool | None = None
    """On "outcome"; of the last one alone."""


class Seen(NamedTuple):
    """A look with what was seen."""

    sight: Sight
    image: np.ndarray
    """uint8 (size, size, 3)."""


class Recorder:
    """A watcher that gives nothing up and remembers what it saw."""

    def __init__(self, steps: Sequence[int]) -> None:
        """Args:

        steps: Sampling steps after which it looks, from 1.
        """
        self.steps = frozenset(steps)
        self.seen: dict[tuple[str, int], list[np.ndarray]] = {}
        """Estimates of an image, in order, by its drawing and the number of its emission."""

    def wants(self, session: Session, step: int) -> bool:
        """See ``Watcher``."""
        return step in self.steps

    def look(self, drafts: Sequence[tuple[Session, np.ndarray]]) -> list[bool]:
        """See ``Watcher``."""
        for session, image in drafts:
            transcript = session.transcript
            self.seen.setdefault((transcript.id, len(transcript.emissions)), []).append(image)
        return [True] * len(drafts)


def draw(policy: Policy, chunk: Sequence[Episode], rules: Rules, steps: Sequence[int], threads: int) -> list[Seen]:
    """Draw a chunk and keep every look at it, drawing by drawing, in the order in which they were to be had.

    Args:
        policy: Draws.
        chunk: What is to be drawn.
        rules: Size of the canvas and so on.
        steps: Sampling steps after which images are estimated; may be none.
        threads: Of torch, see ``rollout``.

    Raises:
        ValueError: Estimates are wanted of a policy that cannot be watched.
    """
    recorder = Recorder(steps)
    if not steps:
        return _seen(rollout(policy, chunk, rules=rules, threads=threads), recorder)
    if not isinstance(policy, Watchable):
        raise ValueError(
            f"Expected a policy that can be watched while it draws, got {type(policy).__name__}; set flow_steps=[]."
        )
    policy.watcher = recorder
    try:
        return _seen(rollout(policy, chunk, rules=rules, threads=threads), recorder)
    finally:
        policy.watcher = None


def _seen(trajectories: Sequence[Trajectory], recorder: Recorder) -> list[Seen]:
    found = []
    for transcript in (each.transcript for each in trajectories):
        entries = enumerate(transcript.emissions)
        images = [(k, each.content) for k, each in entries if each.stage.is_image and not each.error]
        for place, (k, image) in enumerate(images, 1):
            assert not isinstance(image, str)
            estimates = zip(sorted(recorder.steps), recorder.seen.get((transcript.id, k), ()), strict=False)
            for step, shown in [*estimates, (FINISHED, image)]:
                sight = Sight(
                    drawing=transcript.id,
                    prompt=transcript.prompt,
                    meta=transcript.meta,
                    emission=k,
                    step=step,
                    is_last=step == FINISHED and place == len(images),
                )
                found.append(Seen(sight, shown))
    return found


def judge(seen: Sequence[Seen], verifier: Verifier) -> list[Seen]:
    """The same looks with the judge's verdicts.

    Raises:
        OSError: The judge is out of reach.
    """
    looks = [Look(sight.prompt, image, sight.meta) for sight, image in seen]
    last = [k for k, (sight, _) in enumerate(seen) if sight.is_last]

    def said(question: VerifierQuestion, places: Sequence[int]) -> dict[int, bool | None]:
        opinions = verifier.ask(question, [looks[k] for k in places]) if places else []
        return {k: opinion.said for k, opinion in zip(places, opinions, strict=True)}

    every = range(len(looks))
    readable, fits, right = said("clarity", every), said("potential", every), said("outcome", last)
    return [
        Seen(replace(sight, is_readable=readable[k], fits=fits[k], is_right=right.get(k)), image)
        for k, (sight, image) in enumerate(seen)
    ]


def write_looks(path: Path, seen: Sequence[Seen], seconds: float) -> None:
    """Write a chunk's looks and the time that they took; the file is there when it is whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flag, text, number = pa.bool_(), pa.string(), pa.int32()
    kinds = {"drawing": text, "prompt": text, "meta": text, "emission": number, "step": number, "is_last": flag}
    kinds |= {"painter": text, "is_readable": flag, "fits": flag, "is_right": flag, "png": pa.binary()}
    schema = pa.schema(list(kinds.items()), {SECONDS: str(seconds)})
    rows = []
    for sight, image in seen:
        values = {name: getattr(sight, name) for name in Sight.__dataclass_fields__}
        rows.append(values | {"meta": json.dumps(sight.meta), "png": encode_png(image)})
    with replacing(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema), partial, compression="zstd")


def read_looks(path: Path) -> list[Sight]:
    """The looks of a chunk, without images."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=list(Sight.__dataclass_fields__)).to_pylist()
    return [Sight(**{**row, "meta": json.loads(row["meta"])}) for row in rows]


def read_seconds(path: Path) -> float:
    """What the looks of a chunk took, verdicts included where they are there."""
    import pyarrow.parquet as pq

    return float(pq.read_schema(path).metadata[SECONDS])


def read_images(path: Path) -> list[bytes]:
    """Their images as PNG."""
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["png"])["png"].to_pylist()
