"""Joint GRPO over the texts and the images of interleaved trajectories, as a subclass of TRL's ``GRPOTrainer``.

TRL brings the sampler of groups, every text loss, PEFT, accelerate, checkpoints, callbacks and logging. This class
replaces four of its private methods (pinned by ``tests/rl/test_trl_contract.py``):

* ``_generate``: episodes on canvases, by ``rl.workers``, in place of ``model.generate``. A completion is all tokens
  that the policy sampled, switches included; images are no tokens, their switch ``<|vision_start|>`` is.
* ``_generate_and_score_completions``: advantages by ``rl.advantage``, for every emission, spread over its tokens and
  its stochastic flow steps.
* ``_get_per_token_logps_and_entropies``: one packed replay of whole trajectories; the text's share goes to TRL, the
  flow's share waits for
* ``_compute_loss``: TRL's text loss plus the flow loss of ``rl.loss``, each with its own normaliser.

One generation is one call of ``_generate``, see ``rl.generations``.
"""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from trl import GRPOConfig

from ..agents.bagel.model import Bagel
from ..agents.bagel.tokenizer import Tokenizer
from ..agents.replay import Replayed, Replayer
from ..agents.trajectory import Trajectory
from .advantage import advantages
from .checkpoints import CheckpointedTrainer
from .gauges import Gauges
from .generations import Generations, Task
from .learning import Learning, check_learnable, make_optimizer, no_gradient
from .loss import Steps
from .sync import collect, swapped
from .verdicts import check_missing
from .workers import Rollouts


class StrokesTrainer(CheckpointedTrainer):
    """The trainer; ``train()`` and ``train(resume_from_checkpoint=True)`` are those of transformers."""

    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        model: Bagel,
        tokenizer: Tokenizer,
        tasks: Sequence[Task],
        rollouts: Rollouts,
        replayer: Replayer,
        learning: Learning,
        args: GRPOConfig,
        **kwargs: Any,
    ) -> None:
        """Set up.

        Args:
            model: Learns; in full, or its adapters if ``peft_config`` is given.
            tokenizer: Its tokenizer.
            tasks: In the order of training. Every generation takes the next ones, from the start again at the end.
            rollouts: Draws chunks of episodes with given weights, and judges them.
            replayer: Packs and scores trajectories with the sampling that ``rollouts`` uses.
            learning: Credit, objective, rates.
            args: TRL's settings. ``num_generations`` is the size of a group.
            kwargs: Of ``GRPOTrainer``: ``peft_config``, ``callbacks``.

        Raises:
            ValueError: Settings that cannot be learnt with.
        """
        self._has_adapters = kwargs.get("peft_config") is not None
        prompts = args.generation_batch_size // args.num_generations
        if len(tasks) < prompts:
            raise ValueError(f"Expected at least {prompts} tasks, one generation of prompts, got {len(tasks)}.")
        held = bool(args.beta) or learning.objective.needs_reference
        check_learnable(args, group=args.num_generations, is_held=held, has_adapters=self._has_adapters)
        self.tokens, self.replayer, self.learning = tokenizer, replayer, learning
        self.average = learning.average
        self._drawn: list[Trajectory] = []
        self._replayed: list[Replayed] | None = None  # None while TRL asks for log-probs that are filled in later
        self._fresh_until = -1
        args.shuffle_dataset = False  # the tasks come in their order
        rows = [{"prompt": prompt, "meta": json.dumps(meta)} for prompt, meta in tasks]
        super().__init__(
            model=model,
            reward_funcs=[outcome],
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer.base,
            **kwargs,
        )
        self.gauges = Gauges(self.accelerator, self._note, model.dtype)
        self.generations = self._generations(tasks, rollouts)

    def _generations(self, tasks: Sequence[Task], rollouts: Rollouts) -> Generations:
        args = self.args
        steps = args.max_steps * args.gradient_accumulation_steps
        return Generations(
            tasks=list(tasks),
            rollouts=rollouts,
            collect=lambda version: collect(self.accelerator.unwrap_model(self.model), version),
            draws_with=self.average,
            num=math.ceil(steps / self._steps_per_generation),
            prompts=args.generation_batch_size // self.num_generations,
            group=self.num_generations,
            seed=args.seed,
            chunk_size=self.learning.chunk_size,
            max_staleness=self.learning.max_staleness,
            processes=self.accelerator.num_processes,
            rank=self.accelerator.process_index,
        )

    @property
    def _steps_per_generation(self) -> int:
        """Micro-steps that learn from one generation."""
        return self.args.steps_per_generation * self.num_iterations

    def _note(self, name: str, value: float) -> None:
        values = self._metrics["train" if self.model.training else "eval"][name]
        if values and name.endswith(("_max", "_alarm")):  # the largest of a logging interval, where TRL takes means
            values[0] = max(values[0], float(value))
        else:
            values.append(float(value))

    # Rollout ----------------------------------------------------------------------------------------

    def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
        drawn = self._drawn = self.generations.draw_next()
        if [trajectory.transcript.prompt for trajectory in drawn] != list(prompts):
            raise ValueError(
                "Expected TRL to ask for the prompts of this generation in their order; a sampler or data loader of "
                "your own cannot be used with StrokesTrainer."
            )
        sampled = [[token for _, _, reply in t.own() for token in reply.tokens] for t in drawn]
        # A completion without tokens has no last one to look at; a policy that said nothing gets a masked one.
        completions = [ids or [self._tokenizer.pad_token_id] for ids in sampled]
        masks = [[int(bool(ids))] * len(whole) for ids, whole in zip(sampled, completions, strict=True)]
        logps = [[logp for _, _, reply in t.own() for logp in reply.logps] or [0.0] for t in drawn]
        prompt_ids = [self.tokens.encode(prompt) for prompt in prompts]
        texts = self._tokenizer.batch_decode(completions)
        self.gauges.drawings(drawn, self.generations.rollouts.stats)
        return prompt_ids, completions, masks, texts, logps, {"trajectory": drawn}, None, []

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._replayed = None
        out = super()._generate_and_score_completions(inputs)
        drawn, width = self._drawn, out["completion_ids"].shape[1]
        judged = self._credit(drawn)
        credits = [np.nan_to_num(values) for values in judged]
        out["trajectories"] = drawn
        out["credits"] = judged
        out["advantages"] = pad_sequence([_per_token(*pair) for pair in zip(drawn, credits, strict=True)], True)
        out["advantages"] = torch.nn.functional.pad(out["advantages"], (0, width - out["advantages"].shape[1])).to(
            self.accelerator.device
        )
        learnt = sum(map(self.learning.objective.num_learnt, drawn, judged))
        steps = torch.tensor(float(learnt), device=self.accelerator.device)
        out["num_flow_steps"] = self.accelerator.gather(steps).sum()
        for name in ("old_per_token_logps", "ref_per_token_logps"):  # placeholders, see `_anchor`
            out.pop(name, None)
        for observer in self.learning.observers:
            for name, value in observer.on_rollouts(self.state.global_step, drawn, credits).items():
                self._note(name, value)
        return out

    def _credit(self, drawn: Sequence[Trajectory]) -> list[np.ndarray]:
        """Advantages of every emission of this process's trajectories, by groups of the whole generation.

        NaN where there is no verdict.
        """
        signals = [list(self.learning.credit(trajectory)) for trajectory in drawn]
        lengths = [len(trajectory.replies) for trajectory in drawn]
        if self.accelerator.num_processes > 1:
            signals, lengths = gather_object(signals), gather_object(lengths)
        scaled = advantages(signals, lengths, num_generations=self.num_generations, scale=self.scale_rewards)
        self.gauges.note("credit/missing", scaled.num_missing)
        self.gauges.note("credit/masked", scaled.share_masked)
        self.gauges.note("credit/idle_groups", scaled.share_idle)
        check_missing(scaled.share_masked, self.learning.max_missing, "emissions")
        first = self.accelerator.process_index * len(drawn)
        told = zip(scaled.values, scaled.is_judged, strict=True)
        return [np.where(is_judged, values, np.float32(np.nan)) for values, is_judged in told][first:][: len(drawn)]

    # Replay -----------------------------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        is_new = self._buffered_inputs is None or self._step % self._steps_per_generation == 0
        inputs = super()._prepare_inputs(generation_batch)
        if is_new and self.model.training:
            self._fresh_until = self.state.global_step
            for batch in self._buffered_inputs or ():
                self._anchor(batch)
        return inputs

    def _anchor(self, batch: dict[str, Any]) -> None:
        """Log-probs at the behaviour weights and under the reference, from the very pack that the loss will use.

        With one update on fresh weights the loss's own detached values are the old ones, and nothing is computed.
        """
        drew = self.generations.behaviour if self._draws_apart else None
        if drew is not None or self.args.gradient_accumulation_steps % self._steps_per_generation != 0:
            behaviour = nullcontext() if drew is None else swapped(self.accelerator.unwrap_model(self.model), drew)
            old = self._replay_quietly(batch, behaviour)
            batch["old_per_token_logps"] = self._padded([each.logps for each in old], batch)
            batch["old_steps"] = list(map(Steps.of, old))
            if drew is not None:
                self.gauges.drift(batch["trajectories"], old)
        if self.beta or self.learning.objective.needs_reference:
            reference = self._replay_quietly(batch, self.accelerator.unwrap_model(self.model).disable_adapter())
            batch["ref_per_token_logps"] = self._padded([each.logps for each in reference], batch)
            batch["reference_steps"] = list(map(Steps.of, reference))

    @property
    def _draws_apart(self) -> bool:
        """Whether what draws a generation may be other weights than those that begin to learn from it."""
        return self.learning.max_staleness > 0 or self.learning.objective.needs_behaviour

    def _replay_quietly(self, batch: dict[str, Any], weights: AbstractContextManager[Any]) -> list[Replayed]:
        with torch.no_grad(), weights:
            return self.learning.objective.replay(self.replayer, self.model, batch["trajectories"])

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None, None]:
        if self._replayed is None:  # TRL scores the whole generation: `_anchor` does so batch by batch
            return input_ids.new_zeros((len(input_ids), logits_to_keep), dtype=torch.float32), None, None
        logps = self._padded([each.logps for each in self._replayed], None, logits_to_keep)
        entropies = self._padded([each.entropies for each in self._replayed], None, logits_to_keep)
        return logps, entropies, None

    def _padded(self, rows: Sequence[Tensor], batch: Mapping[str, Any] | None, width: int = 0) -> Tensor:
        width = width or batch["completion_ids"].shape[1]  # type: ignore[index]
        return torch.stack([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows])

    # Loss -------------------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        with self.accelerator.autocast():
            replayed = self.learning.objective.replay(self.replayer, model, inputs["trajectories"])
            self._replayed = replayed
        loss = self.learning.text_coef * super()._compute_loss(model, inputs)
        loss = loss + self.learning.flow_coef * self._flow_loss(inputs, replayed)
        loss = loss + no_gradient(model)
        if "old_per_token_logps" in inputs:
            apart = self._padded([each.logps.detach() for each in replayed], inputs) - inputs["old_per_token_logps"]
            self._note("text/log_ratio_max", float(apart.abs().max()))
        if self.state.global_step <= self._fresh_until and not self._draws_apart:
            self.gauges.drift(inputs["trajectories"], replayed)  # the weights are still those that drew
        return loss

    def _flow_loss(self, inputs: Mapping[str, Any], replayed: Sequence[Replayed]) -> Tensor:
        """Sum over the batch's stochastic steps or forward states, over their number in one update."""
        credited = zip(inputs["credits"], replayed, strict=True)
        credit = torch.cat([torch.from_numpy(values).to(r.logps.device)[r.emission] for values, r in credited])
        told = self.learning.objective.loss(
            inputs["trajectories"],
            Steps.cat(list(map(Steps.of, replayed))),
            Steps.cat(inputs["old_steps"]) if "old_steps" in inputs else None,
            credit,
            Steps.cat(inputs["reference_steps"]) if "reference_steps" in inputs else None,
        )
        per_update = self.current_gradient_accumulation_steps / self.args.steps_per_generation
        count = inputs["num_flow_steps"].clamp(min=1) / self.accelerator.num_processes * per_update
        self.gauges.flow(told.metrics, len(credit))
        return told.per_step.sum().float() / count

    # Optimizer --------------------------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Two groups, see ``rl.learning.rated``."""
        if self.optimizer is None:
            gen_rate = self.learning.gen_learning_rate
            rate = self.args.learning_rate if gen_rate is None else gen_rate
            self.optimizer = make_optimizer(self, model or self.model, rate)
        return self.optimizer


def outcome(trajectory: Sequence[Trajectory], **_: Any) -> list[float | None]:
    """TRL's reward function: the outcome of each trajectory, ``None`` where there is no verdict."""
    return [None if each.score is None else each.score.total for each in trajectory]


def _per_token(trajectory: Trajectory, credit: np.ndarray) -> Tensor:
    """The advantage of each sampled token: that of its emission, float32 (N,)."""
    counts = [0 if reply is None else len(reply.tokens) for reply in trajectory.replies]
    return torch.from_numpy(np.repeat(credit, counts).astype(np.float32))
