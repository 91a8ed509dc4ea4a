"""The real back end of multi-turn generation: FLUX.1-Kontext paints what a language model tells, a judge filters it.

Prompt, scene graph, nested sub-graphs (``real_graphs``), plans and detours (``storyteller``); the first step is painted
from its description, each later one is an edit of the picture before it by its instruction (arXiv 2604.04746, section
3.2), and a vision-language model looks at every pair (``edit_filter``). What cannot be told, painted or confirmed is
left out and counted; that a server answers nothing any more ends the build, which goes on at the chunk where it stood,
and finds the verdicts it has paid for in the judge's cache.

``make`` takes the settings as a mapping, the keys of ``KontextSettings``:

    path         folder of FLUX.1-Kontext, as `hf download` leaves it
    judge        settings of a ``JudgeClient`` (model, base_url, cache …), which writes, checks and looks
    seed         decides graphs, detours and noise
    split        "train" or "validation"
    num, chunk_size                          samples of the whole subset and of a full chunk
    size         side of the pictures in pixels, a multiple of 16
    detour_rate  share of steps that become planned detours; 0: additions alone (the paper's table 5)
    steps, guidance, dtype, device           of the pipeline
    objects, attributes, relations, kinds    metadata files and kinds, see ``Vocabulary.read``; null: COCO and GenEval
    tries        candidates drawn for each sample wanted, at most
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, fields
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from ..agents.command import check_number
from ..envs.stages import Emission, Stage
from ..envs.transcript import Transcript
from ..rewards.judge import JudgeClient
from ..rewards.judge_settings import JudgeSettings
from ..rewards.question import Judge
from .chunks import CHUNK, num_chunks, place_of
from .edit_filter import Painted, rejections
from .multi_turn import DETOUR_RATE, MAX_IMAGES, NUM
from .real_graphs import RealGraph, Vocabulary
from .sample import Maker, Sample, Subset
from .scene_prompts import SPLITS, VALIDATION_EVERY
from .storyteller import Failure, Outline, Story, Storyteller

if TYPE_CHECKING:
    from ..agents.diffusers import ImageEditor

WAVE = 32
"""Candidates that are told, painted and judged together: enough to keep a judge's server busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KontextSettings:
    """What ``make`` is told."""

    path: str
    judge: Mapping[str, Any]
    seed: int = 0
    split: str = "train"
    num: int = NUM
    chunk_size: int = CHUNK
    size: int = 1024
    """What FLUX.1-Kontext was trained at."""
    detour_rate: float = DETOUR_RATE
    steps: int = 28
    """This and the guidance as in the documentation of ``FluxKontextPipeline``."""
    guidance: float = 2.5
    dtype: str = "bfloat16"
    """As released."""
    device: str | None = None
    """``None``: the GPU if there is one."""
    objects: str | None = None
    attributes: str | None = None
    relations: str | None = None
    kinds: Sequence[str] = ("color", "spatial")
    tries: int = 4
    """Ours: a filter that lets fewer than a quarter pass says that the painter is not up to it."""

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("num", 1), ("chunk_size", 1), ("size", 16), ("steps", 1), ("tries", 1)):
            check_number(f"multi_turn.real.{name}", getattr(self, name), least)
        check_number("multi_turn.real.guidance", self.guidance, 0, (int, float))
        if isinstance(self.kinds, str) or not all(isinstance(kind, str) for kind in self.kinds):
            raise ValueError(f"Expected multi_turn.real.kinds to be a list of names, got {self.kinds!r}.")
        if self.split not in SPLITS:
            raise ValueError(f"Expected multi_turn.real.split among {', '.join(SPLITS)}, got {self.split!r}.")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "KontextSettings":
        """The settings of a mapping.

        Raises:
            ValueError: An unknown key, a missing one, or a value that makes no sense.
        """
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(
                f"Expected multi_turn.real with keys among {', '.join(sorted(known))}, got {', '.join(unknown)}."
            )
        if lacking := [name for name in ("path", "judge") if not values.get(name)]:
            raise ValueError(f"Expected multi_turn.real with {' and '.join(lacking)} for backend=real, got none.")
        return cls(**values)


def make(settings: Mapping[str, Any]) -> Maker:
    """The maker that ``settings`` describe; weights are loaded here, so call it in the process that uses them.

    Raises:
        ValueError: Settings that make no sense, or a folder without the pipeline.
    """
    told = KontextSettings.read(settings)
    judge = JudgeClient(JudgeSettings.read(told.judge))
    return KontextMultiTurn(
        editor=_editor(told),
        storyteller=Storyteller(chat=judge, judge=judge, detour_rate=told.detour_rate),
        judge=judge,
        client=judge,
        vocabulary=Vocabulary.read(told.objects, told.attributes, told.relations, told.kinds),
        seed=told.seed,
        split=told.split,
        num=told.num,
        chunk_size=told.chunk_size,
        size=told.size,
        tries=told.tries,
        origin={"editor": Path(told.path).name, "judge": judge.settings.model},
    )


_EDITORS: WeakValueDictionary[tuple[Any, ...], "ImageEditor"] = WeakValueDictionary()
"""Those that a maker uses: the makers of both splits share the weights, 34 GB, which go with the last of them."""


def _editor(told: KontextSettings) -> "ImageEditor":
    from ..agents.diffusers import Kontext
    from ..agents.load import placing

    key = (told.path, told.dtype, told.device, told.steps, told.guidance)
    editor = _EDITORS.get(key)
    if editor is None:
        dtype, device = placing({"dtype": told.dtype, "device": told.device}, "multi_turn.real")
        editor = Kontext.load(told.path, dtype=dtype, device=device, steps=told.steps, guidance=told.guidance)
        _EDITORS[key] = editor
    return editor


@dataclass(slots=True, eq=False)
class _Picture:
    """A story that is being painted."""

    number: int
    """Of the candidate."""
    outline: Outline
    story: Story
    images: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, eq=False)
class KontextMultiTurn:
    """A ``Maker`` of multi-turn samples of real pictures."""

    editor: "ImageEditor"
    storyteller: Storyteller
    judge: Judge
    """Looks at what was painted."""
    client: JudgeClient | None = None
    """Gives up its connections after each chunk."""
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    seed: int = 0
    split: str = "train"
    num: int = NUM
    """Samples of the whole subset, of which chunks are slices."""
    chunk_size: int = CHUNK
    """Samples of a full chunk."""
    size: int = 1024
    tries: int = 4
    origin: Mapping[str, Any] = field(default_factory=dict)
    """What provenance says of who painted and judged."""

    def __post_init__(self) -> None:
        self.editor.check(self.size)

    def make(self, chunk: int, num: int) -> list[Sample]:
        """Up to ``num`` samples of a chunk: fewer where too many candidates were rejected; what for is printed.

        Raises:
            OSError: The server of the judge is out of reach.
            ValueError: The vocabulary has too few graphs.
        """
        with nullcontext() if self.client is None else closing(self.client):
            return self._make(chunk, num)

    def _make(self, chunk: int, num: int) -> list[Sample]:
        kept, dropped, tried = list[_Picture](), Counter[str](), 0
        candidates = self._candidates(chunk)
        while len(kept) < num and tried < self.tries * num:
            wave = list(islice(candidates, min(WAVE, num - len(kept), self.tries * num - tried)))
            kept += self._painted(chunk, wave, dropped)
            tried += len(wave)
        counts = {"kept": len(kept), "tried": tried, "dropped": dict(sorted(dropped.items()))}
        print(f"multi_turn chunk {chunk}: {_told(counts)}", file=sys.stderr, flush=True)
        return [self._sample(chunk, picture, counts) for picture in kept]

    def _candidates(self, chunk: int) -> Iterator[tuple[int, Outline]]:
        """The candidates of a chunk with their numbers, without end.

        A graph belongs to one split and in it to one chunk by its hash, so that none is drawn twice.
        """
        chunks, drawn = num_chunks(self.num, self.chunk_size), set[str]()
        if not 0 <= chunk < chunks:
            raise ValueError(f"Expected chunk in [0, {chunks}), got {chunk!r}.")
        share = 1 / chunks if self.split == "train" else 1 / chunks / VALIDATION_EVERY

        def is_wanted(key: str) -> bool:
            return place_of(_number(key), chunks) == (self.split, chunk) and key not in drawn

        for number in count():
            rng = np.random.default_rng(np.random.SeedSequence((self.seed, chunk, number)))
            graph = self.vocabulary.sample(rng, is_wanted, share)
            drawn.add(graph.canonical_hash())
            yield number, Outline.draw(graph, rng)

    def _painted(self, chunk: int, wave: Sequence[tuple[int, Outline]], dropped: Counter[str]) -> list[_Picture]:
        """The candidates that come through, in order; why the others do not goes into ``dropped``."""
        told = self.storyteller.tell([outline for _, outline in wave])
        open_ = list[_Picture]()
        for (number, outline), story in zip(wave, told, strict=True):
            if isinstance(story, Failure):
                dropped[story.reason] += 1
            else:
                dropped.update(story.lost)
                open_.append(_Picture(number, outline, story))
        for step in range(MAX_IMAGES):
            active = [picture for picture in open_ if step < len(picture.story.steps)]
            painted = [self._paint(chunk, picture, step) for picture in active]
            for picture, each, reason in zip(active, painted, rejections(self.judge, painted), strict=True):
                picture.images.append(each.after)
                if reason:
                    dropped[f"picture {reason}"] += 1
                    open_.remove(picture)
        return open_

    def _paint(self, chunk: int, picture: _Picture, step: int) -> Painted:
        """One step of a picture, which has been painted up to there."""
        plan, seed = picture.story.steps[step].plan, (self.seed, chunk, picture.number, step)
        if not step:
            return Painted(plan, None, self.editor.paint([plan.des], [seed], self.size)[0])
        before = picture.images[-1]
        return Painted(plan, before, self.editor.edit([before], [plan.ins], [seed])[0])

    def _sample(self, chunk: int, picture: _Picture, counts: Mapping[str, Any]) -> Sample:
        steps, graph = picture.story.steps, picture.outline.graph
        transcript = Transcript(
            prompt=picture.story.prompt,
            size=self.size,
            id=f"multi_turn-real-{self.split}-{self.seed}-{chunk}-{picture.number}",
            meta={"graph": graph.to_json()},
        )
        for step, image in zip(steps, picture.images, strict=True):
            for stage, content in (
                (Stage.PLAN, str(step.plan)),
                (Stage.SKETCH, image),
                (Stage.INSPECT, str(step.inspection)),
            ):
                error = transcript.record(Emission(stage, content))
                assert not error, error
        transcript.record(Emission(Stage.STOP, ""))
        planned = [k for k, step in enumerate(steps) if step.is_detour]
        return Sample(
            subset=Subset.MULTI_TURN,
            transcript=transcript,
            kinds=tuple(sorted({step.kind for step in steps})),
            graph_hash=graph.canonical_hash(),
            split=self.split,
            provenance={"source": "kontext", **self.origin, "seed": self.seed, "planned": planned, "chunk": counts},
        )


def split_of(graph: RealGraph) -> str:
    """ "train" or "validation", by the graph's hash, as in the mini-world."""
    return place_of(_number(graph.canonical_hash()), 1)[0]


def _number(key: str) -> int:
    return int(key[-8:], 16)


def _told(counts: Mapping[str, Any]) -> str:
    why = ", ".join(f"{name} {number}" for name, number in counts["dropped"].items())
    return f"{counts['kept']} of {counts['tried']} candidates kept" + (f"; dropped: {why}" if why else "")
