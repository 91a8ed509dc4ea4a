"""Supervised training on packs, as a subclass of transformers' ``Trainer``.

The loss is λ_CE · CE + MSE (arXiv 2604.04746, eq. 3 to 6): the cross entropy of texts, of the switches that open an
image, a text or the end, and the flow loss of images. Both are means over the whole global batch, all processes and
accumulation steps together, as in BAGEL's own training (sums over packs, divided by the global numbers of predicted and
of target tokens). An exponential average of the weights is kept beside them; it is what is evaluated and shipped.

Trainer brings accelerate (bf16, data parallelism, FSDP2), schedules, checkpoints, logging. A batch is one pack.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..agents.bagel.autoencoder import Posterior
from ..agents.bagel.model import Bagel
from ..agents.run_folder import checkpoints
from ..envs.files import write_whole
from .average import Average
from .dataset import PackDataset, only

WHOLE = "whole.json"
"""A file in every checkpoint whose parts, of all processes, are there; with what the run has taken so far."""
LEARNT = "learnt.safetensors"
"""All weights that learn, in their own precision, where there are no adapters."""
Examine = Callable[[Bagel, int], Mapping[str, float]]
"""Figures of a model after so many steps; called in all processes."""


class SftTrainer(Trainer):
    """The trainer; ``train()`` and ``train(resume_from_checkpoint=…)`` are those of transformers."""

    loss_is_scaled_for_ga = True  # the counts are those of all accumulation steps

    def __init__(
        self,
        model: Any,
        packs: PackDataset,
        args: TrainingArguments,
        *,
        ce_weight: float,
        decay: float,
        posterior: Posterior = "mean",
        examine: Examine | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up.

        Args:
            model: A ``Bagel`` that learns in full, or one with adapters.
            packs: As many as ``args`` takes.
            args: Settings of transformers; a device takes one pack at a time.
            ce_weight: λ_CE.
            decay: Of the average.
            posterior: How images given as pixels are encoded.
            examine: Looked at every ``args.eval_steps``, with the average for weights.
            kwargs: Of ``Trainer``.
        """
        if args.per_device_train_batch_size != 1:
            raise ValueError(
                "Expected per_device_train_batch_size=1, for a pack is a batch, got "
                f"{args.per_device_train_batch_size}; set the budget of a pack, or gradient_accumulation_steps."
            )
        self.packs, self.ce_weight, self.posterior, self.examine = packs, ce_weight, posterior, examine
        self.decay, self.average = decay, Average(torch.nn.Module(), decay)
        self.seconds = 0.0
        """Spent on training before this process was started."""
        self._begun = time.perf_counter()
        self._losses: Tensor | None = None
        """float64 (2,): both losses, added up since the log was last written."""
        self._tokens, self._packs = 0.0, 0
        self._spoken = time.perf_counter()
        kwargs.setdefault("eval_dataset", packs if examine is not None else None)
        super().__init__(model=model, args=args, data_collator=only, train_dataset=packs, **kwargs)
        self.add_callback(_Averaging(self))
        if self.is_fsdp_enabled and (policy := self.accelerator.state.fsdp_plugin.mixed_precision_policy) is not None:
            # What the model returns is float32 where it matters: accelerate would round the loss to bfloat16.
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = replace(policy, output_dtype=None)

    @property
    def has_adapters(self) -> bool:
        """Whether only adapters learn."""
        return not isinstance(self.accelerator.unwrap_model(self.model), Bagel)

    @property
    def bagel(self) -> Bagel:
        """The model below adapters and wrappers."""
        model = self.accelerator.unwrap_model(self.model)
        return model if isinstance(model, Bagel) else model.get_base_model()

    # Loss -------------------------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        return SequentialSampler(self.packs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The packs of a step in this process, and (predicted tokens, target tokens) of it in all processes."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]  # takes no more
        packs = [batch["pack"] for batch in batches]
        counts = [float(sum(len(p.ce.labels) for p in packs)), float(sum(len(p.targets) for p in packs))]
        if self.accelerator.num_processes > 1:
            counts = self.accelerator.gather(torch.tensor([counts], device=device)).sum(0).tolist()
        return batches, [max(1.0, count) for count in counts]

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This process's share of the loss, times the number of processes, over which gradients are averaged."""
        packed, processes = inputs["pack"], self.accelerator.num_processes
        output = model(
            packed,
            ce_weight=self.ce_weight,
            counts=tuple(count / processes for count in num_items_in_batch),
            posterior=self.posterior,
            generator=torch.Generator(packed.positions.device).manual_seed(inputs["seed"]),
        )
        found = torch.stack([output.ce_loss.detach(), output.mse_loss.detach()]).double()
        self._losses = found if self._losses is None else self._losses + found
        self._tokens, self._packs = self._tokens + inputs["tokens"], self._packs + 1
        loss = output.loss
        if processes > 1 and not self.is_fsdp_enabled:
            # Processes wait for each other's gradients: what a pack makes no use of must have one too.
            loss = loss + 0.0 * sum(p.sum() for p in model.parameters() if p.requires_grad)
        return (loss, output) if return_outputs else loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """Without a walk over all modules, which takes a small model as long as clipping itself."""
        if self.is_fsdp_enabled:
            return super()._clip_grad_norm(model)
        return torch.nn.utils.clip_grad_norm_(self.average.live.values(), self.args.max_grad_norm)

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Of a pack; see ``cost.num_flops``."""
        return int(inputs["flops"])

    # Words ------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add both losses and the speed to the figures of a stretch of steps.

        The losses are those of all steps since the last line, of processes before this one too. Trainer's figures of
        a whole run are left out: they begin anew with each process; see ``metrics.json``.

        Raises:
            ValueError: A loss that is no number any more.
        """
        if "train_runtime" in logs:
            return
        if "loss" in logs and self._packs:
            ce, mse, tokens = self._stretch()
            ce, mse = (value * self.args.gradient_accumulation_steps / self._packs for value in (ce, mse))
            if not math.isfinite(ce + mse):
                raise ValueError(
                    f"Expected losses that are numbers, got {ce} and {mse} before step {self.state.global_step}; begin "
                    "again from a checkpoint with a smaller lr."
                )
            now = time.perf_counter()
            logs |= {"loss": self.ce_weight * ce + mse, "ce": ce, "mse": mse}
            logs["tokens_per_second"] = tokens / max(now - self._spoken, 1e-9)
            self._losses, self._tokens, self._packs, self._spoken = None, 0.0, 0, now
        super().log(logs, start_time)

    def _stretch(self) -> list[float]:
        """What was added up since the last line: both losses as all processes have them together, tokens of all."""
        if self._losses is None:
            return [0.0, 0.0, 0.0]
        every = self.accelerator.gather(torch.cat([self._losses, self._losses.new_tensor([self._tokens])])[None])
        return [*every[:, :2].mean(0).tolist(), every[:, 2].sum().item()]

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Look at the average of the weights."""
        assert self.examine is not None
        begun = time.perf_counter()
        self.model.eval()
        with self.average.applied(), torch.no_grad():
            found = self.examine(self.bagel, self.state.global_step)
        self.model.train()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._spoken += time.perf_counter() - begun  # is no time of training
        return metrics

    @property
    def elapsed(self) -> float:
        """Seconds of the run, those of processes before this one included."""
        return self.seconds + time.perf_counter() - self._begun

    # Checkpoints ------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Adapters as PEFT writes them; of a whole model what learns, exactly."""
        if self.has_adapters:
            return super()._save(output_dir, state_dict)
        if self.args.should_save:
            state = dict(self.model.named_parameters()) if state_dict is None else state_dict
            learnt = {name: state[name].detach().cpu().contiguous() for name in self.average.live}
            Path(str(output_dir)).mkdir(parents=True, exist_ok=True)
            save_file(learnt, Path(str(output_dir)) / LEARNT)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._check_processes(Path(resume_from_checkpoint))
        if self.has_adapters or self.is_fsdp_enabled:
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.model.load_state_dict(load_file(Path(resume_from_checkpoint) / LEARNT), strict=False)

    def _check_processes(self, folder: Path) -> None:
        there, here = json.loads((folder / WHOLE).read_text())["processes"], self.accelerator.num_processes
        if self.is_fsdp_enabled and there != here:
            raise ValueError(
                f"Expected {there} processes, for the shards in {str(folder)!r} are of so many, got {here}; start as "
                "many, or begin in another folder."
            )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = self._folder()
        if self.args.should_save or self.is_fsdp_enabled:
            parts = {str(k): weight.cpu().contiguous() for k, weight in enumerate(self.average.local())}
            save_file(parts, folder / self._part())
        whole = {
            "seconds": self.elapsed,
            "processes": self.accelerator.num_processes,
            "stretch": [*self._stretch(), self._packs, time.perf_counter() - self._spoken],
        }
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            write_whole(folder / WHOLE, json.dumps(whole) + "\n")

    def begin(self) -> None:
        """Make the average, or take up that of the checkpoint which training goes on from."""
        self.average = Average(self.model, self.decay)
        self._begun = self._spoken = time.perf_counter()
        if self.state.global_step:
            parts = load_file(self._folder() / self._part())
            self.average.load([parts[str(k)].to(self.args.device) for k in range(len(parts))])
            whole = json.loads((self._folder() / WHOLE).read_text())
            *losses, tokens, self._packs, spent = whole["stretch"]
            self._losses = torch.tensor(losses, dtype=torch.float64, device=self.args.device) if self._packs else None
            self._tokens = tokens / self.accelerator.num_processes
            self.seconds, self._spoken = whole["seconds"], self._spoken - spent

    def _folder(self) -> Path:
        return Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"

    def _part(self) -> str:
        """The file of this process's averages: all have the same ones, unless weights are sharded."""
        return f"average-{self.accelerator.process_index if self.is_fsdp_enabled else 0}.safetensors"


class _Averaging(TrainerCallback):
    """Keeps the average up with the weights."""

    def __init__(self, trainer: SftTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """See ``TrainerCallback``; weights are where they will stay, and a checkpoint's are in."""
        self.trainer.begin()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """See ``TrainerCallback``; comes before evaluation and checkpoint."""
        self.trainer.average.update(state.global_step - 1)


def latest_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint of a run; one that a kill cut short is passed over."""
    whole = [path for path in checkpoints(folder) if (path / WHOLE).exists()]
    return str(whole[-1]) if whole else None


def drop_partial_checkpoints(folder: Path) -> None:
    """Delete what kills cut short, which transformers would count among those to keep."""
    for path in checkpoints(folder):
        if not (path / WHOLE).exists():
            shutil.rmtree(path)
