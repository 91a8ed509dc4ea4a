"""What a model says of labelled rounds: which of the faults in critique data it reports, and how many it makes up.

    python -m strokes.sft.faults --checkpoint outputs/both/checkpoint --data outputs/data/conflict

Of every sample the model is given all that stands before the inspection which the sample teaches, and inspects in its
place, greedily. A well-formed ``<refine>`` reports a fault; whether it names the right one is not asked. An evaluation
counts reported faults as well, but of the model's own drawings, where they are few; here they are given.
By default the validation split is read, whose graphs are in no training split of ``strokes-data`` (pre-training may
have met some of them).
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..agents.interleaved import Interleaved
from ..envs.markup import has_refine
from ..envs.protocols import Policy
from ..envs.stages import Stage
from ..envs.transcript import Transcript
from .job import NAMES
from .sample import Sample
from .store import DataSet

BATCH = 32
"""Rounds that are inspected together."""
ONLY_INSPECT = np.array([stage is Stage.INSPECT for stage in Stage])


@dataclass(slots=True)
class Tally:
    """Of some rounds, by what is true."""

    faults: int = 0
    reported: int = 0
    """Of the faults."""
    sound: int = 0
    alarms: int = 0
    """Of the sound ones, those that a fault is reported of all the same."""

    def add(self, is_sound: bool, is_reported: bool) -> None:
        """Count one."""
        self.faults += not is_sound
        self.reported += is_reported and not is_sound
        self.sound += is_sound
        self.alarms += is_reported and is_sound


def before_inspection(sample: Sample) -> Transcript:
    """A labelled sample up to the inspection it teaches.

    Raises:
        ValueError: It has no label, or teaches no inspection.
    """
    taught = (k for k, entry in enumerate(sample.transcript.emissions) if entry.loss and entry.stage is Stage.INSPECT)
    k = next(taught, None)
    if sample.label is None or k is None:
        raise ValueError(
            f"Expected a sample of conflict or alignment, with a label and an inspection that is learnt, got "
            f"{sample.transcript.id} of {sample.subset}."
        )
    return sample.transcript.cut(k)


def reports(policy: Policy, samples: Sequence[Sample]) -> list[bool]:
    """Whether the policy reports a fault of each sample, in their order."""
    said: list[bool] = []
    for first in range(0, len(samples), BATCH):
        rounds = [before_inspection(sample) for sample in samples[first : first + BATCH]]
        sessions = [policy.start(each, each.size, (0, first + k)) for k, each in enumerate(rounds)]
        replies = policy.act(sessions, [ONLY_INSPECT] * len(sessions))
        policy.close(sessions)
        said += [has_refine(str(reply.emission.content)) for reply in replies]
    return said


def check_sizes(samples: Sequence[Sample], size: int) -> None:
    """``ValueError`` if a picture is not of the model's canvas, on which alone a small model can see."""
    for sample in samples:
        if sample.transcript.size != size:
            raise ValueError(
                f"Expected pictures of {size} pixels, the model's canvas, got {sample.transcript.id} of "
                f"{sample.transcript.size}; make data with strokes-data size={size}."
            )


def tallied(samples: Sequence[Sample], said: Sequence[bool]) -> dict[tuple[str, str], Tally]:
    """By subset and kind of fault; sound rounds have the kind "" and a subset's total "all"."""
    found: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for sample, is_reported in zip(samples, said, strict=True):
        for kind in ("all", *(sample.kinds or ("",))):
            found[str(sample.subset), kind].add(bool(sample.label), is_reported)
    return dict(sorted(found.items()))


def to_markdown(found: Mapping[tuple[str, str], Tally]) -> str:
    """A table of counts."""
    lines = [
        "| subset | fault | rounds with it | reported | sound rounds | false alarms |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {subset} | {kind or 'none'} | {each.faults} | {each.reported} | {each.sound} | {each.alarms} |"
        for (subset, kind), each in found.items()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command; prints the table. The exit code, 1 where an input is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="directory, or a name that ships")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of conflict or alignment data")
    parser.add_argument("--split", choices=("validation", "train"), default="validation")
    parser.add_argument("--limit", type=int, help="first samples of each folder; default: all")
    own = parser.parse_args(arguments)
    try:
        if own.limit is not None and own.limit < 1:
            raise ValueError(f"Expected --limit of at least 1, got {own.limit}.")
        if missing := [str(path) for path in own.data if not path.exists()]:
            raise ValueError(f"Expected folders that strokes-data wrote, got no {', '.join(missing)}.")
        samples = [each for path in own.data for each in DataSet(path).select(split=own.split)[: own.limit]]
        if not samples:
            raise ValueError(f"Expected samples of the split {own.split}, got none in {', '.join(map(str, own.data))}.")
        policy = Interleaved.load(NAMES.get(str(own.checkpoint), own.checkpoint))
        check_sizes(samples, policy.model.config.vae_transform[0])
        said = reports(policy, samples)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(to_markdown(tallied(samples, said)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
