"""Checkpoints of a learner: what belongs to them beside what transformers keeps, such as each process's rollouts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import nn

from .buffer import Batch, Buffer, resumed, save_buffer

if TYPE_CHECKING:
    from .trainer import StrokesTrainer

WHOLE = "whole"
"""A file in every checkpoint whose parts, of all processes, are there."""
LEARNT = "learnt.safetensors"
"""All weights that learn, in their own precision, where there are no adapters."""


def save_learnt(model: nn.Module, folder: Path) -> None:
    """Write all weights that learn."""
    save_file({name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}, folder / LEARNT)


def load_learnt(model: nn.Module, folder: Path) -> None:
    """Read what ``save_learnt`` wrote."""
    model.load_state_dict(load_file(folder / LEARNT), strict=False)


def save_rollouts(trainer: "StrokesTrainer", position: Mapping[str, Any], batches: Sequence[Batch] | None) -> None:
    """Put this process's part of the rollouts into the checkpoint of the moment; the last one marks it whole.

    Args:
        trainer: Whose checkpoint has just been written.
        position: How far the run is.
        batches: Of the current generation.
    """
    accelerator = trainer.accelerator
    folder = Path(str(trainer.args.output_dir)) / f"checkpoint-{trainer.state.global_step}"
    part = folder / f"rollouts-{accelerator.process_index}"
    average = None if trainer.average is None else trainer.average.weights
    save_buffer(part, position, batches, trainer.generations.admitted, average)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        mark_whole(folder)


def mark_whole(checkpoint: Path) -> None:
    """Say that nothing of a checkpoint is missing."""
    (checkpoint / WHOLE).touch()


def load_rollouts(trainer: "StrokesTrainer", checkpoint: str) -> Buffer:
    """This process's part of a checkpoint."""
    accelerator = trainer.accelerator
    rank, processes = accelerator.process_index, accelerator.num_processes
    return resumed(checkpoint, rank, processes, trainer.state.global_step, accelerator.device)
