"""``strokes-rl``: from a checkpoint to an adapter, curves and a report.

One run is one folder: ``run.json`` (its settings), ``checkpoints/`` (everything needed to go on, rollouts included),
``log.jsonl``, ``heldout.jsonl``, and at the end ``adapter/``, ``curves.png`` and ``report.html``. Started again on its
folder with the same settings, a run goes on where it stood, exactly. ``configs/rl.yaml`` says what can be set.
"""

import os
import sys
import threading
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from transformers import PrinterCallback, TrainingArguments
from trl import GRPOConfig

from ..agents.bagel.checkpoint import load
from ..agents.bagel.model import Bagel
from ..agents.bagel.sample import Sampling
from ..agents.bagel.tokenizer import Tokenizer
from ..agents.callbacks import Begin, JsonLog, StopWhenAsked
from ..agents.command import run_training, settings_from
from ..agents.load import checkpoint_of, load_policy
from ..agents.lora import adapters
from ..agents.pool import Resources
from ..agents.replay import Replayer
from ..agents.rollout import Rules
from ..agents.run_folder import RunFolder, checkpoints, stop_requests
from ..envs.scenes.tasks import sample_task
from ..rewards.scenes import SceneReward
from .advantage import Combined, CreditRule, Improvement, Outcome, RewardToGo
from .average import Average
from .callbacks import Terminal, Watch
from .checkpoints import WHOLE
from .flow_settings import Flow
from .forward import ForwardObjective
from .hacking import HackingMonitor
from .heldout import HeldOut
from .judges import SERVERS, imported, make_reward
from .learning import FlowShare, Learning, Observer
from .loss import FlowObjective, Form
from .observers import Filmstrips, SampleTable
from .preference_run import preference_trainer
from .preference_trainer import PreferenceTrainer
from .run_report import write_run_report
from .settings import Credit, Settings
from .trainer import StrokesTrainer
from .workers import LocalRollouts, RayRollouts, Rollouts, RolloutWorker

PLACES = {"rollout.kind", "rollout.workers", "rollout.address", "rollout.gpus"}
FREE = PLACES | SERVERS | {"out", "report_to", "save_every", "keep", "heldout", "samples_every", "reward.max_missing"}
"""Settings that may differ when a run goes on: where it runs, how its judge is reached, and what is written down."""
FIGURES = ("reward", "heldout/strict", "heldout/soft", "drift/text_max", "drift/flow_max", "images_per_drawing")


def main() -> int:
    """The console script; returns the exit code, 143 where it was asked to stop before the end."""
    return run_training(lambda config, folder: train(settings_from(config, Settings, "rl"), folder), "rl")


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
    with stop_requests() as stop:
        if settings.preference is None:
            trainer: StrokesTrainer | PreferenceTrainer = make_trainer(settings, folder, stop)
        else:
            trainer = make_preference_trainer(settings, folder, stop)
            run.begin()  # what it draws first is kept, and is of these settings
        if trainer.is_world_process_zero():
            trainer.add_callback(Begin(run))
        try:
            trainer.train(resume_from_checkpoint=latest_checkpoint(folder))
        finally:
            trainer.generations.rollouts.close()
    state = trainer.state
    if state.global_step < trainer.args.max_steps:
        print(f"stopped after step {state.global_step}; the same command goes on", flush=True)
        return False
    if trainer.is_world_process_zero():
        trainer.save_model(str(folder / "adapter"))
        last = {name: value for line in state.log_history for name, value in line.items()}
        write_run_report(folder)
        run.finish({"steps": state.global_step} | {name: last.get(name) for name in FIGURES})
        print(f"{folder} is finished: {run.metrics}\nreport: {folder / 'report.html'}", flush=True)
    return True


def make_trainer(settings: Settings, folder: Path, stop: threading.Event) -> StrokesTrainer:
    """Everything of a run that learns from groups, put together."""
    model, tokenizer = learner(settings)
    learning = Learning(
        credit=credit_rule(settings.credit),
        objective=objective(settings.flow, settings.sampling),
        average=_average(settings),
        text_coef=settings.text.coef,
        flow_coef=settings.flow.coef,
        gen_learning_rate=settings.flow.lr,
        chunk_size=settings.rollout.chunk,
        max_staleness=settings.rollout.staleness,
        max_missing=settings.reward.max_missing,
        observers=observers(settings, folder) if int(os.environ.get("RANK", 0)) == 0 else (),
    )
    trainer = StrokesTrainer(
        model,
        tokenizer,
        tasks(settings, settings.prompts * settings.steps),
        rollouts(settings),
        Replayer(model.config, tokenizer, settings.sampling, prefix=settings.prefix),
        learning,
        arguments(settings, folder),
        peft_config=None if settings.lora is None else adapters(settings.lora),
        callbacks=[StopWhenAsked(stop), JsonLog(folder / "log.jsonl"), Terminal()],
    )
    watch(trainer, settings, folder)
    return trainer


def make_preference_trainer(settings: Settings, folder: Path, stop: threading.Event) -> PreferenceTrainer:
    """Everything of a run that learns from pairs, put together."""
    model, tokenizer = learner(settings)
    trainer = preference_trainer(
        settings,
        folder,
        model,
        Replayer(model.config, tokenizer, settings.sampling, prefix=settings.prefix),
        tasks(settings, settings.prompts * settings.steps),
        rollouts(settings),
        TrainingArguments(**shared(settings, folder), per_device_train_batch_size=1),
        callbacks=[StopWhenAsked(stop), JsonLog(folder / "log.jsonl")],
    )
    watch(trainer, settings, folder)
    return trainer


def learner(settings: Settings) -> tuple[Bagel, Tokenizer]:
    """The model that learns, all but its autoencoder, and its tokenizer."""
    checkpoint = checkpoint_of(settings.policy)
    model = load(checkpoint, dtype=settings.dtype, device=settings.device)
    model.vae.requires_grad_(False)
    return model, Tokenizer.load(checkpoint)


def watch(trainer: StrokesTrainer | PreferenceTrainer, settings: Settings, folder: Path) -> None:
    """Look at the held-out set now and then."""
    trainer.remove_callback(PrinterCallback)  # prints all figures of a step
    if settings.heldout.every:
        watched = HeldOut(folder / "heldout.jsonl", **_without(asdict(settings.heldout), "every"))
        trainer.add_callback(Watch(trainer, watched, settings.heldout.every * settings.steps_per_generation))


def observers(settings: Settings, folder: Path) -> list[Observer]:
    """Who watches what is drawn: the terminal, pages of filmstrips, the hacking monitor."""
    reward = settings.reward
    is_strict = reward.target is None and (reward.outcome not in (None, "soft") or reward.critic == "exact")
    other = "soft" if is_strict else "strict"  # nothing learns from it
    return [
        HackingMonitor(folder / "hacking.jsonl", SceneReward(outcome=other)),
        Filmstrips(folder / "samples", settings.samples_every * settings.steps_per_generation),
        SampleTable(settings.samples_every * settings.steps_per_generation),
    ]


def rollouts(settings: Settings) -> Rollouts:
    """Who draws."""
    make_policy = partial(
        load_policy,
        {**settings.policy, "temperature": settings.text.temperature},
        steps=settings.num_steps,
        guidance=settings.guidance,
        noise=settings.noise,
        is_recorded=True,
    )
    make_worker = partial(
        RolloutWorker,
        make_policy,  # type: ignore[arg-type]
        Rules(size=settings.size),
        make_reward(settings.reward, settings.judge, settings.policy),
        threads=settings.rollout.threads,
        is_graded_throughout=settings.credit.name in ("improvement", "custom"),
    )
    if settings.rollout.kind == "local":
        return LocalRollouts(make_worker)
    resources = Resources(num_cpus=settings.rollout.threads, num_gpus=settings.rollout.gpus)
    return RayRollouts(make_worker, settings.rollout.workers, resources=resources, address=settings.rollout.address)


def arguments(settings: Settings, folder: Path) -> GRPOConfig:
    """TRL's settings of a run."""
    processes = int(os.environ.get("WORLD_SIZE", 1))
    accumulation = settings.gradient_accumulation(processes)
    return GRPOConfig(
        **shared(settings, folder),
        max_steps=settings.steps * settings.steps_per_generation,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=accumulation,
        steps_per_generation=accumulation * settings.updates,
        num_iterations=settings.iterations,
        num_generations=settings.group,
        scale_rewards=settings.scale,
        loss_type=settings.text.loss_type,
        epsilon=settings.text.epsilon,
        epsilon_high=settings.text.epsilon_high,
        beta=settings.text.beta,
        temperature=settings.text.temperature,
        disable_dropout=True,
    )


def shared(settings: Settings, folder: Path) -> dict[str, Any]:
    """transformers' settings of any run."""
    return dict(
        output_dir=str(folder / "checkpoints"),
        seed=settings.seed,
        learning_rate=settings.text.lr,
        lr_scheduler_type=settings.lr_schedule,
        max_grad_norm=settings.max_grad_norm,
        gradient_checkpointing=settings.gradient_checkpointing,
        remove_unused_columns=False,
        use_cpu=settings.device == "cpu",
        bf16=False,  # the weights have the precision they are loaded in; adapters and optimizer are float32
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=settings.keep,
        logging_steps=1,
        report_to=list(settings.report_to),
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
    )


def credit_rule(credit: Credit) -> CreditRule:
    """The rule that settings name."""
    outcome = Outcome(price_per_image=credit.price, stop_bonus=credit.stop_bonus)
    if credit.name == "stages":
        return RewardToGo(outcome=outcome, discount=credit.discount)
    if credit.name == "improvement":
        return Combined({"outcome": 1.0, "improvement": 1.0}, outcome=outcome, improvement=Improvement())
    return outcome if credit.target is None else imported("credit.target", credit.target)


def objective(flow: Flow, sampling: Sampling) -> FlowShare:
    """The flow's share of the loss."""
    if flow.nft is not None:
        return ForwardObjective(sampling=sampling, mix=flow.nft.mix, penalty=flow.beta, num_states=flow.nft.states)
    clips = {} if flow.clip is None else {"clip_low": flow.clip, "clip_high": flow.clip}
    return FlowObjective(form=cast(Form, flow.form), regulariser=flow.regulariser, beta=flow.beta, **clips)


def _average(settings: Settings) -> Average | None:
    """What draws, where that is not what learns."""
    nft = settings.flow.nft
    return None if nft is None else Average(nft.schedule, steps=settings.steps_per_generation)


def latest_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint of a run; one that a kill cut short is passed over."""
    whole = [path for path in checkpoints(folder / "checkpoints") if (path / WHOLE).exists()]
    return str(whole[-1]) if whole else None


def tasks(settings: Settings, num: int) -> list[tuple[str, dict[str, Any]]]:
    """Training prompts, the same for every run with this seed: ``num`` of them, drawn with ``settings.tasks``."""
    rng = np.random.default_rng([settings.seed, 0x7A5C])
    tags = list(settings.tasks or ())
    shares = np.array([settings.tasks[tag] for tag in tags], float) if settings.tasks else np.zeros(0)
    drawn = []
    for _ in range(num):
        tag = tags[int(rng.choice(len(tags), p=shares / shares.sum()))] if tags else None
        task = sample_task(rng, "train", tag)
        drawn.append((task.prompt, dict(task.meta)))
    return drawn


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


if __name__ == "__main__":
    sys.exit(main())
