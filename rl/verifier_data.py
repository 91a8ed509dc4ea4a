"""The data that a verifier learns from: a policy's own drawings, looked at on their way and labelled, as parquet files.

    looks/chunk-00000.parquet   every look at the drawings of a chunk, with the judge's verdicts (verifier_looks.py)
    train.parquet               the examples: image, question, prompt, label, painter, kind, provenance
    validation.parquet          others, for choosing settings
    test.parquet                others, for the report
    spent.json                  what it took, see ``Spent``
    README.md                   the card: where they come from, and how many there are of each kind

A verifier is asked about drawings of both painters, so both draw. The prompts are the mini-world's own for training,
never a held-out graph. One prompt in so many is set aside for choosing and one for the report, by the hash of its
graph, so that no other words for it are in another part. What is learnt from has as many yes as no of every painter's
drawings of every prompt, or else which prompts are hard would tell the answer without a look at the picture
(docs/parm.md). What is set aside is at its natural rate. A picture that is an example of an outcome is not one of
best-of-N' too. Everything follows from the settings and the
seed, chunk by chunk; every file replaces its predecessor only when it is whole, and what is there is not made again.
"""

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ..agents.rollout import Episode, Rules, chunks
from ..envs.archive import decode_png
from ..envs.files import replacing, write_whole
from ..envs.protocols import Policy, Verifier
from ..envs.scenes.tasks import sample_task
from ..rewards.review import graph_of_task
from .progress import progress
from .verifier_card import SPENT, SPLITS, Spent, card, check_both
from .verifier_labels import KINDS, Count, Kind, counted, drawn_of, labels_of, paired, quotas
from .verifier_looks import FINISHED, Seen, Sight, draw, judge, read_images, read_looks, read_seconds, write_looks
from .verifier_settings import Drawings

TASKS, CHOICE = 0x5EE, 0x5EF
"""Tell apart the random numbers that prompts and examples are chosen with."""
CARD = "README.md"
"""Written last: with it the folder is complete."""
_TEXT = {"dtype": "string", "_type": "Value"}
FEATURES: Mapping[str, Any] = {
    "image": {"_type": "Image"},
    **dict.fromkeys(("question", "prompt"), _TEXT),
    "label": {"dtype": "bool", "_type": "Value"},
    **dict.fromkeys(("painter", "kind", "provenance"), _TEXT),
}
"""The columns, as ``datasets.Features.to_dict`` has them."""


class Found(NamedTuple):
    """An example before its image is read."""

    kind: Kind
    is_yes: bool
    question: str
    chunk: int
    row: int
    """Of its look in the chunk's file."""
    sight: Sight


class Builder:
    """Draws, asks and chooses, in one folder."""

    def __init__(self, folder: Path, settings: Drawings, *, seed: int, size: int) -> None:
        """Args:

        folder: Of the data.
        settings: How much is drawn, and what is taken of it.
        seed: Decides prompts, noise and choice.
        size: Side of the canvas in pixels.
        """
        self.folder, self.settings, self.seed, self.size = folder, settings, seed, size
        rng = np.random.default_rng([seed, TASKS])
        tasks = [sample_task(rng) for _ in range(settings.prompts)]
        parts = chunks(
            [(task.prompt, task.meta) for task in tasks],
            seed=seed,
            num_members=settings.members,
            chunk_size=settings.chunk,
        )
        self.chunks = [(painter, part) for painter in settings.painters for part in parts]

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing left to do."""
        return (self.folder / CARD).exists()

    def draw(
        self,
        make_policy: Callable[[str], Policy],
        verifier: Verifier,
        *,
        stop: threading.Event,
        on_begun: Callable[[], None],
    ) -> bool:
        """Draw and judge what is missing.

        Args:
            make_policy: Loads who draws, by the name of the painter; not called where everything is drawn.
            verifier: The judge.
            stop: Set by whoever wants it to end after the chunk in hand.
            on_begun: Called when something is there that must not be mixed with other settings.

        Returns:
            Whether nothing is missing any more.

        Raises:
            OSError: The judge is out of reach. What was drawn is kept, and is asked about the next time.
        """
        todo = [k for k in range(len(self.chunks)) if not self._judged(k).exists()]
        if not todo:
            return True
        policies = dict[str, Policy]()
        total = sum(len(part) for _, part in self.chunks)
        with progress(sys.stdout, total, total - sum(len(self.chunks[k][1]) for k in todo)) as bar:
            for k in todo:
                painter, part = self.chunks[k]
                if stop.is_set():
                    return False
                if not self._drawn(k).exists():
                    if painter not in policies:
                        policies = {painter: make_policy(painter)}  # one at a time is held
                    self._draw(policies[painter], k, painter, part)
                    on_begun()
                num = self._judge(k, verifier)
                bar.advance(len(part), f"{num} looks")
        return True

    def _draw(self, policy: Policy, k: int, painter: str, part: Sequence[Episode]) -> None:
        begun = perf_counter()
        seen = draw(policy, part, Rules(size=self.size), self.settings.flow_steps, self.settings.threads)
        own = [
            Seen(replace(sight, painter=painter, drawing=f"{painter}/{sight.drawing}"), image) for sight, image in seen
        ]
        write_looks(self._drawn(k), own, perf_counter() - begun)

    def _judge(self, k: int, verifier: Verifier) -> int:
        """Have the looks of a chunk judged; how many there are."""
        begun, drawn = perf_counter(), read_seconds(self._drawn(k))
        looks = zip(read_looks(self._drawn(k)), read_images(self._drawn(k)), strict=True)
        seen = judge([Seen(sight, decode_png(png, self.size)) for sight, png in looks], verifier)
        write_looks(self._judged(k), seen, drawn + perf_counter() - begun)
        self._drawn(k).unlink()
        return len(seen)

    def choose(self, about: Mapping[str, Any]) -> None:
        """Choose the examples of both parts and write them, and the card.

        Args:
            about: What the card says of where they come from.

        Raises:
            ValueError: Of a question all answers are the same, in what is learnt from.
        """
        found = self._found()
        counts: dict[str, dict[Kind, Count]] = {}
        num_looks = 0
        for split in SPLITS:
            wanted = self._wanted(split)
            taken = self._taken(split, [each for each in found if self._split(each.sight) == split], wanted)
            counts[split] = counted(((each.kind, each.is_yes) for each in taken), wanted)
            if split == "train":
                check_both(counts[split])
                num_looks = len({(each.chunk, each.row) for each in taken})
            self._write(split, taken)
        spent = self._spent(num_looks)
        write_whole(self.folder / SPENT, json.dumps(asdict(spent)) + "\n")
        write_whole(self.folder / CARD, card({**about, "drawn and judged": spent.told}, counts, len(found)))

    def _spent(self, num_looks: int) -> Spent:
        """What it took to draw and to judge."""
        looks = [look for k in range(len(self.chunks)) for look in read_looks(self._judged(k))]
        return Spent(
            drawings=len({look.drawing for look in looks}),
            verdicts=2 * len(looks) + sum(look.is_last for look in looks),
            looks=num_looks,
            seconds=round(sum(read_seconds(self._judged(k)) for k in range(len(self.chunks))), 1),
        )

    def _wanted(self, split: str) -> dict[Kind, int]:
        """How many examples of each kind."""
        if split == "train":
            return quotas(self.settings.scale, 1 - self.settings.test - self.settings.validation)
        num = self.settings.report if split == "test" or self.settings.validation else 0
        return {kind: 0 if kind == "best_of" else num for kind in KINDS}  # asks what outcomes ask

    def _taken(self, split: str, found: Sequence[Found], wanted: Mapping[Kind, int]) -> list[Found]:
        """The examples of a part.

        Of what is learnt from, outcomes and best-of-N' share the pairs; the latter come first, for fewer pictures will
        do, and leave the others their share.
        """
        taken: list[Found] = []
        for kind in sorted(KINDS, key=lambda each: each != "best_of"):
            asked = {(each.chunk, each.row, each.question) for each in taken}
            mine = [each for each in found if each.kind == kind and (each.chunk, each.row, each.question) not in asked]
            rng, num = np.random.default_rng([self.seed, CHOICE, SPLITS.index(split), KINDS.index(kind)]), wanted[kind]
            if split != "train":
                taken += [mine[k] for k in drawn_of(len(mine), num, rng)]
                continue
            if kind == "best_of":
                ends = [each for each in found if each.kind == "outcome"]
                num_paired = len(_paired(ends, len(ends), np.random.default_rng(0)))  # all there are
                num = num_paired * num // max(1, num + wanted["outcome"])
            taken += _paired(mine, num, rng)
        return taken

    def _found(self) -> list[Found]:
        """Every label of every drawing."""
        found = []
        for chunk in range(len(self.chunks)):
            looks = list(enumerate(read_looks(self._judged(chunk))))
            for _, group in groupby(looks, lambda each: each[1].drawing):
                rows, sights = zip(*group, strict=True)
                for label in labels_of(sights):
                    place = rows[label.sight], sights[label.sight]
                    found.append(Found(label.kind, label.is_yes, label.question, chunk, *place))
        return found

    def _split(self, sight: Sight) -> str:
        """The part that a prompt belongs to; the same for all prompts of one graph."""
        graph = graph_of_task(sight.prompt, sight.meta)
        key = sight.prompt if graph is None else graph.canonical_hash()
        place = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
        if place < self.settings.test:
            return "test"
        return "validation" if place < self.settings.test + self.settings.validation else "train"

    def _write(self, split: str, taken: Sequence[Found]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text, image = pa.string(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = [("image", image), *((name, text) for name in ("question", "prompt")), ("label", pa.bool_())]
        columns += [(name, text) for name in ("painter", "kind", "provenance")]
        schema = pa.schema(columns, {"huggingface": json.dumps({"info": {"features": FEATURES}})})
        ordered = sorted(taken, key=lambda each: (each.chunk, each.row, each.kind))
        with replacing(self.folder / f"{split}.parquet") as partial, pq.ParquetWriter(partial, schema) as writer:
            writer.write_table(schema.empty_table())  # a part may be empty, and is a table all the same
            for chunk, group in groupby(ordered, lambda each: each.chunk):
                images = read_images(self._judged(chunk))
                writer.write_table(pa.Table.from_pylist([_row(each, images[each.row]) for each in group], schema))

    def _judged(self, k: int) -> Path:
        return self.folder / "looks" / f"chunk-{k:05d}.parquet"

    def _drawn(self, k: int) -> Path:
        """Looks that nobody was asked about yet."""
        return self.folder / "looks" / f"drawn-{k:05d}.parquet"


def _row(found: Found, png: bytes) -> dict[str, Any]:
    sight = found.sight
    provenance = {
        "drawing": sight.drawing,
        "emission": sight.emission,
        "step": None if sight.step == FINISHED else sight.step,
        "is_last": sight.is_last,
    }
    return {
        "image": {"bytes": png, "path": None},
        "question": found.question,
        "prompt": sight.prompt,
        "label": found.is_yes,
        "painter": sight.painter,
        "kind": found.kind,
        "provenance": json.dumps(provenance),
    }


def _paired(found: Sequence[Found], num: int, rng: np.random.Generator) -> list[Found]:
    """See ``paired``: of one prompt and painter."""
    groups = [(each.sight.prompt, each.sight.painter) for each in found]
    return [found[k] for k in paired([each.is_yes for each in found], groups, num, rng)]
