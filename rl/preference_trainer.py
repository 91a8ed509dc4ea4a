"""Training on preferences, as a subclass of transformers' ``Trainer``.

A batch is the number of a step: its pairs are those of its round (``rl.rounds``), drawn when the round begins. Each
micro-batch of pairs is one packed replay at the weights that learn and one at the reference, the model without its
adapters, at the same forward states.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainingArguments

from ..agents.bagel.model import Bagel
from ..agents.replay import Replayer
from .checkpoints import mark_whole
from .generations import Generations
from .guidance import Guide
from .learning import make_optimizer, no_gradient
from .preference import Pair, PreferenceObjective
from .rounds import Rounds
from .sync import Weights, collect

Collect = Callable[[int], Weights]
"""Copies the weights of the moment, under a version."""


class PreferenceTrainer(Trainer):
    """The trainer; ``train()`` and ``train(resume_from_checkpoint=…)`` are those of transformers."""

    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        model: Bagel,
        replayer: Replayer,
        objective: PreferenceObjective,
        make_rounds: Callable[[Collect], Rounds],
        args: TrainingArguments,
        *,
        peft_config: LoraConfig,
        gen_learning_rate: float,
        micro_batch: int,
        guide: Guide | None = None,
        guidance: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Set up.

        Args:
            model: Its adapters learn.
            replayer: Packs trajectories.
            objective: Of pairs.
            make_rounds: Makes what its pairs come from, given how the weights of the moment are collected.
            args: Settings of transformers.
            peft_config: The adapters.
            gen_learning_rate: Of the gen expert; that of the und expert is ``args.learning_rate``.
            micro_batch: Pairs of one packed forward.
            guide: A verifier with a term of its own.
            guidance: The factor on it.
            kwargs: Of ``Trainer``.
        """
        if args.world_size > 1:
            raise ValueError(
                f"Expected one learner process with preference, got {args.world_size}; draw with more workers "
                "(rollout.kind=ray) instead."
            )
        self.replayer, self.objective, self.rounds = replayer, objective, make_rounds(self._collect)
        self.gen_learning_rate, self.micro_batch = gen_learning_rate, micro_batch
        self.guide, self.guidance = guide, guidance
        self._said: dict[str, list[float]] = defaultdict(list)
        args.max_steps = self.rounds.num_steps
        super().__init__(
            model=get_peft_model(model, peft_config),  # type: ignore[arg-type]
            args=args,
            train_dataset=Dataset.from_dict({"step": range(self.rounds.num_steps)}),
            data_collator=lambda rows: {"step": rows[0]["step"]},
            **kwargs,
        )

    def _collect(self, version: int) -> Weights:
        """The weights of the moment. Looks have versions of their own, below 0, for a round has many of them."""
        version = version if version >= 0 else -1 - self.state.global_step
        return collect(self.accelerator.unwrap_model(self.model), version)

    @property
    def generations(self) -> Generations:
        """What draws."""
        return self.rounds.generations

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    # Loss -------------------------------------------------------------------------------------------

    def training_step(self, model: Any, inputs: Mapping[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Gradients of the step's pairs, micro-batch by micro-batch."""
        if self.rounds.begins(int(inputs["step"])):
            self._tell_round(int(inputs["step"]))
        pairs, epoch = self.rounds.batch(int(inputs["step"]))
        model.train()
        total = torch.zeros((), device=self.args.device)
        for first in range(0, len(pairs), self.micro_batch):
            part = pairs[first : first + self.micro_batch]
            loss = self._loss(model, part, epoch) * (len(part) / len(pairs))
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _loss(self, model: Any, pairs: Sequence[Pair], epoch: int) -> Tensor:
        """Mean over some pairs."""
        drawn = [each for pair in pairs for each in pair]
        states = [given for pair in pairs for given in self.objective.states(pair, epoch)]
        plain = self.accelerator.unwrap_model(model)
        with torch.no_grad(), plain.disable_adapter():
            reference = self.replayer(model, drawn, states)
        with self.accelerator.autocast():
            now = self.replayer(model, drawn, states)
        told = self.objective(now, reference, states)
        self._note(told.metrics, len(pairs))
        loss = told.per_pair.mean()
        if self.guide is not None:
            guidance = self.guide.loss(plain.get_base_model(), pairs, now, states) / len(pairs)
            self._note({"guidance": float(guidance.detach())}, len(pairs))
            loss = loss + self.guidance * guidance
        return loss + no_gradient(model)

    # Words ------------------------------------------------------------------------------------------

    def _note(self, values: Mapping[str, float], times: int = 1) -> None:
        for name, value in values.items():
            self._said[name] += [value] * times

    def _tell_round(self, step: int) -> None:
        paired = self.rounds.round(step // (self.rounds.per_round * self.rounds.epochs))
        counts = {"made": len(paired.pairs), "equal": paired.num_equal, "missing": paired.num_missing}
        self.log({"reward": paired.reward} | {f"pairs/{name}": float(count) for name, count in counts.items()})
        print(
            f"step {step}: {len(paired.pairs)} pairs ({paired.num_equal} prompts judged alike, {paired.num_missing} "
            f"with too few verdicts), mean reward {paired.reward:.3f}",
            flush=True,
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of what the loss said since the last line of losses."""
        if "loss" in logs:
            logs |= {f"preference/{name}": sum(values) / len(values) for name, values in self._said.items()}
            self._said.clear()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Not counted."""
        return 0

    # Optimizer and checkpoints ----------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Two groups, see ``rl.learning.rated``."""
        if self.optimizer is None:
            self.optimizer = make_optimizer(self, model or self.model, self.gen_learning_rate)
        return self.optimizer

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        mark_whole(Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}")
