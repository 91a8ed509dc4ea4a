"""Image-instruction alignment from GenRef, whose pairs of pictures the paper extends (arXiv 2604.04746, section 3.2).

A prompt is planned in one step. Where the sketch is the bad picture, the inspection says what is wrong with it, as the
pair's reflection does, and the good picture is the refinement; where it is the good one, the sketch stands. Either way
the drawing then ends, since one step draws all of the prompt: what comes next is learnt too. With a critic the words
are the critic's, who looks at the picture, and pairs of which it thinks differently are left out; else the reflection
is brought into the form of an inspection by rule.
"""

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..envs.markup import Inspection, Plan
from ..envs.stages import Stage
from ..envs.transcript import Entry, Transcript
from ..rewards.critics import Critic, Judgement, Query
from ..rewards.judge import JudgeClient
from .alignment import NUM, POSITIVES
from .benchmark_prompts import is_benchmark, normalised
from .chunks import CHUNK, check_chunks, num_chunks, place_of
from .corrections import COMPLETE, inspection_of, one_line
from .genref_shards import SUBSETS, Pair, read_pairs
from .quotas import quota
from .rows import decode_image
from .sample import Sample, Subset
from .store import OnBad

WAVE = 32
"""Pairs that are judged together: enough to keep a judge's server busy."""
WRONG = "the sketch does not follow the plan"
"""What is said where a reflection holds nothing but corrections."""
ASKS = re.compile(
    r"(?:please |to (?:improve|fix|correct)\b|(?:add|remove|change|replace|move|make|ensure|adjust|include|increase|"
    r"reduce|decrease|place|position|modify|correct|fix|use|delete|turn|swap|rotate|redraw|show|put|give|keep|draw|set|"
    r"introduce|enhance|refine|revise)\b)",
    re.IGNORECASE,
)
"""How a sentence begins that asks for an edit and does not describe."""
_NUMBERS = re.compile(r"(?:^|(?<=[.!?;:]\s))\s*(?:\d+[.)]|[-*])\s+")
_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=\S)")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenRefAlignment:
    """Makes the alignment subset from GenRef's shards.

    A prompt belongs to one chunk by its hash, so that no two chunks have a pair in common, in whichever shards it is. A
    chunk reads shard after shard until there are enough samples, and each begins at another one.
    """

    paths: Sequence[str | Path]
    """Tar files, see ``genref_shards``; their order counts."""
    critic: Critic | None = None
    """Whose words are said; ``None``: the reflection's."""
    client: JudgeClient | None = None
    """Gives up its connections after each chunk."""
    subsets: Collection[str] = SUBSETS
    """Of GenRef."""
    seed: int = 0
    """Part of what samples are called; nothing is random."""
    num: int = NUM
    """Samples of the whole subset, of which chunks are slices."""
    split: str = "train"
    """"train" or "validation": prompts are in one of them by their hash."""
    chunk_size: int = CHUNK
    """Samples of a full chunk; chunk c begins with sample c times this."""
    on_bad: OnBad = "raise"
    """"raise", or "skip": leave out records that are damaged."""
    excluded: Collection[str] = field(default=())
    """Normalised prompts of further benchmarks, such as WISE."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("Expected shards of GenRef such as genref_0.tar, got none.")
        if unknown := sorted(set(self.subsets) - set(SUBSETS)):
            raise ValueError(f"Expected subsets of GenRef among {', '.join(SUBSETS)}, got {', '.join(unknown)}.")
        check_chunks(self.split, self.num, self.chunk_size)

    def make(self, chunk: int, num: int) -> list[Sample]:
        """The first ``num`` samples of a chunk.

        Raises:
            ValueError: A damaged shard or picture (see ``on_bad``), or too few pairs in the chunk's share.
            OSError: The critic is out of reach.
        """
        with nullcontext() if self.client is None else closing(self.client):
            return self._make(chunk, num)

    def _make(self, chunk: int, num: int) -> list[Sample]:
        start, counts = chunk * self.chunk_size, Counter[str]()
        positives, negatives = quota(Subset.ALIGNMENT, start, num)
        wanted, found = {True: positives, False: negatives}, list[tuple[Transcript, bool, Pair]]()
        pairs = self._pairs(chunk, counts)
        while any(wanted.values()):
            wave = self._wave(pairs, wanted)
            if not wave:
                raise ValueError(
                    f"Expected {positives} good and {negatives} bad pictures for chunk {chunk}, got {len(found)} "
                    f"together ({_told(counts)}); name more shards, or build with a smaller scale."
                )
            for pair, label, transcript in self._drawn(wave, counts):
                wanted[label] -= 1
                found.append((transcript, label, pair))
        print(f"alignment chunk {chunk} of GenRef: {_told(counts)}", file=sys.stderr, flush=True)
        return [self._sample(start + k, *each) for k, each in enumerate(found)]

    def _pairs(self, chunk: int, counts: Counter[str]) -> Iterator[Pair]:
        """The chunk's share of the prompts, without those of benchmarks, and what came before."""
        chunks = num_chunks(self.num, self.chunk_size)
        if not 0 <= chunk < chunks:
            raise ValueError(f"Expected chunk in [0, {chunks}), got {chunk!r}.")
        first = chunk * len(self.paths) // chunks
        said = set[tuple[str, str]]()
        for path in (*self.paths[first:], *self.paths[:first]):
            for pair in read_pairs(path, subsets=self.subsets, on_bad=self.on_bad, counts=counts):
                if place_of(int(prompt_hash(pair.prompt)[:15], 16), chunks) != (self.split, chunk):
                    continue
                key = (normalised(pair.prompt), normalised(pair.reflection))
                reason = "a benchmark's prompt" if is_benchmark(pair.prompt, self.excluded) else ""
                reason = reason or ("said before" if key in said else "")
                said.add(key)
                if reason:
                    counts[reason] += 1
                else:
                    yield pair

    def _wave(self, pairs: Iterator[Pair], wanted: dict[bool, int]) -> list[tuple[Pair, bool]]:
        """The next pairs and whether the good picture is to be inspected: whichever is further behind."""
        left, wave = dict(wanted), list[tuple[Pair, bool]]()
        while len(wave) < WAVE and any(left.values()):
            pair = next(pairs, None)
            if pair is None:
                break
            label = left[True] * (NUM - POSITIVES) > left[False] * POSITIVES
            left[label] -= 1
            wave.append((pair, label))
        return wave

    def _drawn(
        self, wave: Sequence[tuple[Pair, bool]], counts: Counter[str]
    ) -> Iterator[tuple[Pair, bool, Transcript]]:
        """Transcripts of those pairs that can be used."""
        whole = list[tuple[Pair, bool, np.ndarray, np.ndarray]]()
        for pair, label in wave:
            try:
                good, bad = (decode_image(data, f"{name} of {pair.key!r}") for name, data in _images(pair))
            except ValueError:
                if self.on_bad == "raise":
                    raise
                counts["damaged picture"] += 1
                continue
            whole.append((pair, label, good, bad))
        inspections = self._inspections([(pair, label, good if label else bad) for pair, label, good, bad in whole])
        for (pair, label, good, bad), inspection in zip(whole, inspections, strict=True):
            if inspection is None or (inspection.refine is None) is not label:
                counts["judged differently" if self.critic else "reflection without words"] += 1
                continue
            counts["good" if label else "bad"] += 1
            yield pair, label, _transcript(pair, inspection, good if label else bad, None if label else good)

    def _inspections(self, shown: Sequence[tuple[Pair, bool, np.ndarray]]) -> list[Inspection | None]:
        if self.critic is None:
            return [Inspection(COMPLETE) if label else rewritten(pair.reflection) for pair, label, _ in shown]
        plans = [str(_plan(pair.prompt)) for pair, _, _ in shown]
        queries = [
            Query(kind="sketch", prompt=pair.prompt, plan=plan, canvas=image)
            for plan, (pair, _, image) in zip(plans, shown, strict=True)
        ]
        judgements: list[Judgement] = self.critic.judge(queries)
        return [inspection_of(judgement) for judgement in judgements]

    def _sample(self, number: int, transcript: Transcript, label: bool, pair: Pair) -> Sample:
        transcript.id, transcript.seed = f"alignment-genref-{self.split}-{self.seed}-{number}", self.seed
        notes = {"number": number, "key": pair.key, "genref_subset": pair.subset}
        return Sample(
            subset=Subset.ALIGNMENT,
            transcript=transcript,
            label=label,
            graph_hash=prompt_hash(pair.prompt),
            split=self.split,
            provenance={"source": "genref", **notes, "words": "reflection" if self.critic is None else "critic"},
        )


def prompt_hash(prompt: str) -> str:
    """SHA-256 of a prompt's normalised text, in place of a graph's."""
    return hashlib.sha256(normalised(prompt).encode()).hexdigest()


def rewritten(reflection: str) -> Inspection | None:
    """A reflection as an inspection: sentences that describe are what is wrong, those that ask are the correction.

    Where none asks, all of it is the correction: a reflection tells what to do better. ``None``: there are no words.
    """
    sentences = [one_line(each) for each in _SENTENCES.split(_NUMBERS.sub("", reflection)) if one_line(each)]
    asking = [each for each in sentences if ASKS.match(each)]
    wrong = [each for each in sentences if not ASKS.match(each)] if asking else []
    return Inspection(". ".join(wrong) or WRONG, ". ".join(asking or sentences)) if sentences else None


def _plan(prompt: str) -> Plan:
    words = one_line(prompt)
    return Plan(f"draw {words}", words)


def _transcript(pair: Pair, inspection: Inspection, shown: np.ndarray, refined: np.ndarray | None) -> Transcript:
    entries = [
        Entry(stage=Stage.PLAN, content=str(_plan(pair.prompt)), loss=False),
        Entry(stage=Stage.SKETCH, content=shown, loss=False),
        Entry(stage=Stage.INSPECT, content=str(inspection)),
    ]
    entries += [] if refined is None else [Entry(stage=Stage.REFINE, content=refined)]
    entries.append(Entry(stage=Stage.STOP, content=""))
    return Transcript(prompt=pair.prompt, size=max(shown.shape), emissions=entries)  # pictures need not be square


def _images(pair: Pair) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    return ("good_image.jpg", pair.good), ("bad_image.jpg", pair.bad)


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{num} {reason}" for reason, num in sorted(counts.items())) or "nothing read"
