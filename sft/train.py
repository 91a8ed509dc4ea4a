"""``strokes-sft``: supervised training on packs of trajectories, from a checkpoint to a checkpoint.

One run is one folder: ``run.json`` (its settings), ``checkpoints/`` (everything needed to go on), ``log.jsonl``,
``samples/`` (filmstrips of held-out tasks), and at the end ``checkpoint/`` in the official layout (or ``adapter/``),
``metrics.json`` and a card, ``README.md``. Started again on its folder with the same settings, a run goes on where it
stood, exactly. ``configs/sft.yaml`` says what can be set.
"""

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..agents.bagel.checkpoint import save
from ..agents.callbacks import Begin
from ..agents.command import run_training, settings_from
from ..agents.load import fingerprint
from ..agents.run_folder import RunFolder, stop_requests
from .job import Job, make_job
from .model_card import write_card
from .train_settings import Settings
from .trainer import drop_partial_checkpoints, latest_checkpoint

FREE = {
    *("out", "report_to", "log_every", "save_every", "keep", "evaluation", "device", "gpus", "workers", "dry_run"),
    "data.cache",
}
"""Settings that may differ when a run goes on: where it runs and what is written down."""


def main() -> int:
    """The console script; returns the exit code, 143 where it was asked to stop before the end."""
    return run_training(_train_or_estimate, "sft")


def _train_or_estimate(config: Any, folder: Path) -> bool:
    settings = settings_from(config, Settings, "sft")
    if settings.dry_run:
        from .estimate import estimate

        print(estimate(settings))
        return True
    return train(settings, folder)


def train(settings: Settings, folder: Path) -> bool:
    """Run, or go on with, one training run.

    Args:
        settings: All of it.
        folder: The run's folder.

    Returns:
        Whether the run is finished; false where it was asked to stop.
    """
    run = RunFolder(folder, asdict(settings), free=FREE)
    if run.metrics is not None:
        print(f"{folder} is finished: {run.metrics}", flush=True)
        return True
    checkpoints = folder / "checkpoints"
    with stop_requests() as stop:
        job = make_job(settings, folder, stop)
        if job.trainer.is_world_process_zero():
            job.trainer.add_callback(Begin(run))
            drop_partial_checkpoints(checkpoints)
        job.trainer.train(resume_from_checkpoint=latest_checkpoint(checkpoints))
    step = job.trainer.state.global_step
    if step < settings.steps:
        print(f"stopped after step {step}; the same command goes on", flush=True)
        return False
    _ship(job, settings, folder)
    if job.trainer.is_world_process_zero():
        metrics = _metrics(job, settings, folder)
        write_card(folder / "README.md", settings, metrics)
        run.finish(metrics)
        print(f"{folder} is finished: {run.metrics}", flush=True)
    return True


def _ship(job: Job, settings: Settings, folder: Path) -> None:
    """Write what was learnt, with the average for weights."""
    trainer = job.trainer
    with trainer.average.applied():
        if settings.lora is not None:
            if trainer.is_world_process_zero():
                trainer.accelerator.unwrap_model(trainer.model).save_pretrained(str(folder / "adapter"))
            return
        state = trainer.accelerator.get_state_dict(trainer.model)  # gathered where weights are in shards
        if trainer.is_world_process_zero():
            save(folder / "checkpoint", trainer.bagel, dtype=torch.bfloat16, state=state)
            job.tokenizer.save(folder / "checkpoint")


def _metrics(job: Job, settings: Settings, folder: Path) -> dict[str, Any]:
    trainer, packing = job.trainer, job.packs.packing
    drawn = Counter(choice.source for number in range(len(job.packs)) for choice in packing[number])
    last = {name: value for line in trainer.state.log_history for name, value in line.items()}
    return {
        "steps": trainer.state.global_step,
        "tokens": sum(packing.tokens(number) for number in range(len(job.packs))),
        "flops": trainer.state.total_flos,
        "seconds": round(trainer.elapsed, 1),
        "parameters": sum(weight.numel() for weight in trainer.average.live.values()),
        "waste": round(packing.waste(), 4),
        "epochs": {source.name: drawn[k] / len(packing.lengths[k]) for k, source in enumerate(job.sources)},
        "data": {source.name: source.sha256 for source in job.sources},
        "checkpoint": fingerprint(folder / ("checkpoint" if settings.lora is None else "adapter")),
        **{name: last[name] for name in ("ce", "mse") if name in last},
        **{name: value for name, value in last.items() if name.startswith("eval_") and isinstance(value, float)},
    }


if __name__ == "__main__":
    sys.exit(main())
