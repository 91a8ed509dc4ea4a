"""Checkpoints of a learner: what belongs to them beside what transformers keeps, such as each process's rollouts."""

from pathlib import Path
from typing import Any

import trl
from safetensors.torch import load_file, save_file
from trl import GRPOTrainer

from .average import Average
from .buffer import Batch, resumed, save_buffer
from .generations import Generations

WHOLE = "whole"
"""A file in every checkpoint whose parts, of all processes, are there."""
LEARNT = "learnt.safetensors"
"""All weights that learn, in their own precision, where there are no adapters."""


def mark_whole(checkpoint: Path) -> None:
    """Say that nothing of a checkpoint is missing."""
    (checkpoint / WHOLE).touch()


class CheckpointedTrainer(GRPOTrainer):
    """A trainer that goes on in the middle of a generation, exactly."""

    generations: Generations
    average: Average | None
    """What draws, where that is not what learns."""
    _buffered_inputs: list[Batch] | None
    _fresh_until: int
    """Optimizer steps until which the weights are those that drew."""
    _has_adapters: bool

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Adapters as PEFT writes them; a whole model in BAGEL's layout, and exactly in ``learnt.safetensors``."""
        super()._save(output_dir, state_dict)
        if not self._has_adapters:
            learnt = {name: p.detach().cpu() for name, p in self.model.named_parameters() if p.requires_grad}
            save_file(learnt, Path(output_dir or self.args.output_dir) / LEARNT)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._has_adapters:
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.model.load_state_dict(load_file(Path(resume_from_checkpoint) / LEARNT), strict=False)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        behaviour = self.generations.behaviour
        position = {
            "trl": trl.__version__,
            "global_step": self.state.global_step,
            "micro_step": self._step,
            "generation": self.generations.next,
            "fresh_until": self._fresh_until,
            "behaviour": None if behaviour is None else behaviour.version,
        }
        part = folder / f"rollouts-{self.accelerator.process_index}"
        average = None if self.average is None else self.average.weights
        save_buffer(part, position, self._buffered_inputs, self.generations.admitted, average)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            mark_whole(folder)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        buffer = resumed(checkpoint, rank, processes, self.state.global_step, self.accelerator.device)
        position, self._buffered_inputs = buffer.position, buffer.batches
        self._step, self.generations.next = position["micro_step"], position["generation"]
        self._fresh_until = position["fresh_until"]
        if self.average is not None:
            self.average.weights = buffer.average
        for number, weights in buffer.admitted:
            self.generations.admit(number, weights)
