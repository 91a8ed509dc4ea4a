"""The data that a verifier learns from: a policy's own drawings, looked at on their way and labelled, as parquet files.

    looks/chunk-00000.parquet   every look at the drawings of a chunk, with the judge's verdicts (verifier_looks.py)
    train.parquet, test.parquet the examples: image, question, prompt, label, kind, provenance
    README.md                   the card: where they come from, and how many there are of each kind

The prompts are the mini-world's own for training, never a held-out graph. One prompt in so many is set aside for the
report (``test``), by the hash of its graph, so that no other words for it are in the other part. Everything follows
from the settings and the seed, chunk by chunk; every file replaces its predecessor only when it is whole, and what is
there is not made again.
"""

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..agents.rollout import Episode, Rules, chunks
from ..envs.archive import decode_png
from ..envs.files import replacing, write_whole
from ..envs.protocols import Policy, Verifier
from ..envs.scenes.tasks import sample_task
from ..rewards.review import graph_of_task
from .progress import progress
from .verifier_labels import KINDS, PAPER, Count, Kind, chosen, counted, labels_of, quotas
from .verifier_looks import FINISHED, Seen, Sight, draw, judge, read_images, read_looks, write_looks
from .verifier_settings import Drawings

SPLITS = ("train", "test")
TASKS, CHOICE = 0x5EE, 0x5EF
"""Tell apart the random numbers that prompts and examples are chosen with."""
_TEXT = {"dtype": "string", "_type": "Value"}
FEATURES: Mapping[str, Any] = {
    "image": {"_type": "Image"},
    **dict.fromkeys(("question", "prompt"), _TEXT),
    "label": {"dtype": "bool", "_type": "Value"},
    **dict.fromkeys(("kind", "provenance"), _TEXT),
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
        self.chunks = chunks(
            [(task.prompt, task.meta) for task in tasks],
            seed=seed,
            num_members=settings.members,
            chunk_size=settings.chunk,
        )

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing left to do."""
        return all((self.folder / f"{split}.parquet").exists() for split in SPLITS)

    def draw(
        self,
        make_policy: Callable[[], Policy],
        verifier: Verifier,
        *,
        stop: threading.Event,
        on_begun: Callable[[], None],
    ) -> bool:
        """Draw and judge what is missing.

        Args:
            make_policy: Loads who draws; not called where everything is drawn.
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
        policy = None if all(self._drawn(k).exists() for k in todo) else make_policy()
        total = sum(map(len, self.chunks))
        with progress(sys.stdout, total, total - sum(len(self.chunks[k]) for k in todo)) as bar:
            for k in todo:
                if stop.is_set():
                    return False
                if not self._drawn(k).exists():
                    assert policy is not None
                    self._draw(policy, k, self.chunks[k])
                    on_begun()
                num = self._judge(k, verifier)
                bar.advance(len(self.chunks[k]), f"{num} looks")
        return True

    def _draw(self, policy: Policy, k: int, chunk: Sequence[Episode]) -> None:
        seen = draw(policy, chunk, Rules(size=self.size), self.settings.flow_steps, self.settings.threads)
        write_looks(self._drawn(k), seen)

    def _judge(self, k: int, verifier: Verifier) -> int:
        """Have the looks of a chunk judged; how many there are."""
        looks = zip(read_looks(self._drawn(k)), read_images(self._drawn(k)), strict=True)
        seen = judge([Seen(sight, decode_png(png, self.size)) for sight, png in looks], verifier)
        write_looks(self._judged(k), seen)
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
        shares = {"train": 1 - self.settings.test, "test": self.settings.test}
        counts: dict[str, dict[Kind, Count]] = {}
        for part, split in enumerate(SPLITS):
            wanted = quotas(self.settings.scale, shares[split])
            taken: list[Found] = []
            for number, kind in enumerate(KINDS):
                mine = [each for each in found if each.kind == kind and (split == "test") == self._is_test(each.sight)]
                rng = np.random.default_rng([self.seed, CHOICE, part, number])
                taken += [mine[k] for k in chosen([each.is_yes for each in mine], wanted[kind], rng)]
            counts[split] = counted(((each.kind, each.is_yes) for each in taken), wanted)
            if split == "train":
                check_both(counts[split])
            self._write(split, taken)
        write_whole(self.folder / "README.md", card(about, counts, len(found)))

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

    def _is_test(self, sight: Sight) -> bool:
        """Whether a prompt is set aside; the same for all prompts of one graph."""
        graph = graph_of_task(sight.prompt, sight.meta)
        key = sight.prompt if graph is None else graph.canonical_hash()
        return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) < self.settings.test * 2**32

    def _write(self, split: str, taken: Sequence[Found]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {"question": pa.string(), "prompt": pa.string(), "label": pa.bool_(), "kind": pa.string()}
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = [("image", image), *kinds.items(), ("provenance", pa.string())]
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


def check_both(counts: Mapping[Kind, Count]) -> None:
    """``ValueError`` unless there are both answers to every question."""
    for kind, count in counts.items():
        if count.wanted and not (count.yes and count.no):
            raise ValueError(
                f"Expected examples of {kind} with both answers, got {count.yes} yes and {count.no} no: whoever learns "
                "from one answer alone learns to give it. Draw more in another folder (drawings.prompts, "
                "drawings.members), of harder or easier prompts, or look earlier (drawings.flow_steps)."
            )


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
        "kind": found.kind,
        "provenance": json.dumps(provenance),
    }


def card(about: Mapping[str, Any], counts: Mapping[str, Mapping[Kind, Count]], num_found: int) -> str:
    """The card, as Markdown with the header that ``datasets.load_dataset`` reads."""
    header = ["---", "configs:", "- config_name: default", "  data_files:"]
    header += [f"  - {{split: {split}, path: {split}.parquet}}" for split in SPLITS]
    told = [f"* {name}: {value}" for name, value in about.items()]
    rows = ["| part | kind | wanted | got | yes | no | the paper's |", "|---|---|--:|--:|--:|--:|--:|"]
    short = []
    for split, of_split in counts.items():
        for kind, (wanted, yes, no) in of_split.items():
            rows.append(f"| {split} | {kind} | {wanted} | {yes + no} | {yes} | {no} | {PAPER[kind]} |")
            if yes + no < wanted or abs(yes - no) > 1:
                short.append(f"{split}/{kind} ({yes} yes, {no} no of {wanted})")
    lacking = f"Not as many as wanted, or not balanced, for want of drawings: {', '.join(short)}." if short else ""
    chosen_of = f"Chosen out of {num_found} labels; yes and no in equal numbers where there are enough."
    title = "# What a verifier of images on their way learns from"
    lines = [*header, "---", "", title, "", *told, "", *rows, "", chosen_of, lacking]
    return "\n".join(lines).rstrip() + "\n"
