"""The rollout buffer on disk: everything that a run needs to go on in the middle of a generation.

``state.json`` holds plain values and, where an array belongs, its name in ``tensors.safetensors``. Nothing is pickled,
so a buffer can be read without trusting who wrote it. Floats go through JSON's shortest exact form and arrays through
their bytes: what is read equals what was written, bit for bit.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..agents.trajectory import Trajectory
from ..envs.archive import from_record, to_record
from ..envs.files import replacing
from ..envs.protocols import Cost, Reply, Score, Transition
from ..envs.stages import Emission
from ..envs.transcript import Entry, Transcript
from .loss import Steps
from .sync import Weights

FORMAT, VERSION = "strokes/rollouts", 1

Batch = dict[str, Any]
"""A micro-batch of the trainer: tensors, trajectories, credits and flow steps, under their names."""


class Buffer(NamedTuple):
    """What a run needs to go on, see ``save_buffer``."""

    position: dict[str, Any]
    """How far the run is."""
    batches: list[Batch] | None
    """Micro-batches of the current generation."""
    admitted: list[tuple[int, Weights]]
    """Generations that were being drawn ahead."""
    average: Weights | None
    """What drew the last one, where that is an average."""


def save_buffer(
    folder: str | Path,
    position: Mapping[str, Any],
    batches: Sequence[Batch] | None,
    admitted: Sequence[tuple[int, Weights]],
    average: Weights | None = None,
) -> None:
    """Write a buffer.

    Args:
        folder: Where to; made if need be.
        position: How far the run is, plain values.
        batches: Micro-batches of the current generation; ``None``: there are none yet.
        admitted: Generations that are being drawn ahead, with the weights they are drawn with.
        average: What drew the last generation, where that is an average.
    """
    folder = Path(folder)
    writer = _Writer()
    state = {
        "format": FORMAT,
        "version": VERSION,
        "position": dict(position),
        "batches": None if batches is None else [writer.batch(batch) for batch in batches],
        "admitted": [[number, writer.weights(weights)] for number, weights in admitted],
        "average": None if average is None else writer.weights(average),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "tensors.safetensors") as partial:
        save_file(writer.tensors, partial)
    with replacing(folder / "state.json") as partial:
        partial.write_text(json.dumps(state) + "\n")


def load_buffer(folder: str | Path, device: torch.device | str = "cpu") -> Buffer:
    """What ``save_buffer`` wrote.

    Raises:
        ValueError: The folder holds no buffer of this version.
    """
    folder = Path(folder)
    try:
        state = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / "tensors.safetensors")
        about = (state["format"], state["version"])
    except (OSError, ValueError, SafetensorError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected a rollout buffer in {str(folder)!r}, written with its checkpoint, got {error}; resume from "
            "another checkpoint."
        ) from error
    if about != (FORMAT, VERSION):
        raise ValueError(
            f"Expected {FORMAT} version {VERSION} in {str(folder)!r}, got {about[0]!r} version "
            f"{about[1]!r}; resume with the version of strokes that wrote it."
        )
    reader = _Reader(tensors, device)
    batches = None if state["batches"] is None else [reader.batch(batch) for batch in state["batches"]]
    return Buffer(
        position=state["position"],
        batches=batches,
        admitted=[(number, reader.weights(record)) for number, record in state["admitted"]],
        average=reader.weights(average) if (average := state.get("average")) else None,
    )


def resumed(
    checkpoint: str | Path, rank: int, processes: int, global_step: int, device: torch.device | str = "cpu"
) -> Buffer:
    """A process's part of what a checkpoint holds, once it is known to belong there.

    Raises:
        ValueError: It was written by another number of processes, by another version of TRL, or at another step.
    """
    folder = Path(checkpoint) / f"rollouts-{rank}"
    written = len(list(Path(checkpoint).glob("rollouts-*")))
    if written != processes:
        raise ValueError(
            f"Expected as many learner processes as {str(checkpoint)!r} was written by, {written}, got {processes}; "
            "each goes on with its own part of the rollouts."
        )
    buffer = load_buffer(folder, device)
    current = version("trl")
    if buffer.position.get("trl") != current:
        raise ValueError(
            f"Expected in {str(folder)!r} rollouts of TRL {current}, got those of {buffer.position.get('trl')}: "
            "what a batch holds differs between versions. Install that one, or start another run from this adapter."
        )
    if buffer.position["global_step"] != global_step:
        raise ValueError(
            f"Expected in {str(folder)!r} the rollouts of step {global_step}, got those of step "
            f"{buffer.position['global_step']}; resume from a checkpoint whose files belong together."
        )
    return buffer


class _Writer:
    """Puts arrays aside while values become plain."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def put(self, value: Any) -> str:
        """Keep an array; the name it is kept under."""
        name = str(len(self.tensors))
        tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value.detach()
        self.tensors[name] = tensor.cpu().clone(memory_format=torch.contiguous_format)
        return name

    def batch(self, batch: Batch) -> dict[str, Any]:
        return {name: self._value(name, value) for name, value in batch.items()}

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.put(value)
        if name == "trajectories":
            return [self._trajectory(each) for each in value]
        if name == "credits":
            return [self.put(each) for each in value]
        if name.endswith("_steps"):
            return [[self.put(tensor) for tensor in each] for each in value]
        raise TypeError(f"Expected tensors, trajectories, credits or flow steps in a batch, got {name!r}.")

    def _trajectory(self, trajectory: Trajectory) -> dict[str, Any]:
        transcript, score = trajectory.transcript, trajectory.score
        images = [None if isinstance(e.content, str) else self.put(e.content) for e in transcript.emissions]
        return {
            "transcript": to_record(transcript),
            "images": images,
            "seed": trajectory.seed,
            "replies": [None if reply is None else self._reply(reply) for reply in trajectory.replies],
            "score": None if score is None else _plain(score),
            "progress": trajectory.progress,
        }

    def _reply(self, reply: Reply) -> dict[str, Any]:
        return {
            "path": [[self.put(step.x), self.put(step.x_next), *step[2:]] for step in reply.path],
            "latent": None if reply.latent is None else self.put(reply.latent),
            "cost": asdict(reply.cost),
            **{name: getattr(reply, name) for name in _PLAIN},
        }

    def weights(self, weights: Weights) -> dict[str, Any]:
        plain = {f.name: getattr(weights, f.name) for f in fields(weights) if f.name != "tensors"}
        return plain | {"tensors": {name: self.put(tensor) for name, tensor in weights.tensors.items()}}


class _Reader:
    """The way back."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device | str) -> None:
        self.tensors, self.device = tensors, device

    def batch(self, record: Mapping[str, Any]) -> Batch:
        return {name: self._value(name, value) for name, value in record.items()}

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, str):
            return self.tensors[value].to(self.device)
        if name == "trajectories":
            return [self._trajectory(each) for each in value]
        if name == "credits":
            return [self.tensors[each].numpy() for each in value]
        return [Steps(*(self.tensors[tensor].to(self.device) for tensor in each)) for each in value]

    def _trajectory(self, record: Mapping[str, Any]) -> Trajectory:
        transcript, score = self._transcript(record), record["score"]
        replies = zip(transcript.emissions, record["replies"], strict=True)
        return Trajectory(
            transcript=transcript,
            seed=tuple(record["seed"]),
            replies=[None if reply is None else self._reply(entry, reply) for entry, reply in replies],
            score=None if score is None else Score(**{**score, "cost": Cost(**score["cost"])}),
            progress=record["progress"],
        )

    def _transcript(self, record: Mapping[str, Any]) -> Transcript:
        names = iter([name for name in record["images"] if name is not None])
        return from_record(record["transcript"], lambda *_: self.tensors[next(names)].numpy())

    def _reply(self, entry: Entry, record: Mapping[str, Any]) -> Reply:
        steps = [Transition(self.tensors[x], self.tensors[x_next], *rest) for x, x_next, *rest in record["path"]]
        plain = {name: _tuples(record[name]) for name in _PLAIN}
        return Reply(
            emission=Emission(entry.stage, entry.content),
            path=tuple(steps),
            latent=None if record["latent"] is None else self.tensors[record["latent"]],
            cost=Cost(**record["cost"]),
            **plain,
        )

    def weights(self, record: Mapping[str, Any]) -> Weights:
        return Weights(**{**record, "tensors": {name: self.tensors[at] for name, at in record["tensors"].items()}})


_PLAIN = ("source", "tokens", "logps", "allowed", "temperature")
"""Fields of a reply that JSON holds as they are."""


def _plain(score: Score) -> dict[str, Any]:
    """A score as JSON holds it."""
    listed = {"steps": list(map(dict, score.steps)), "pay": list(score.pay)}
    return {"total": score.total, "terms": dict(score.terms), **listed, "cost": asdict(score.cost)}


def _tuples(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
