"""A run on preferences, put together from its settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from ..agents.bagel.model import Bagel
from ..agents.load import checkpoint_of
from ..agents.lora import adapters
from ..agents.replay import Replayer
from ..agents.understanding import Understanding
from .advantage import Outcome
from .generations import Generations, Task
from .guidance import Guide
from .preference import PreferenceObjective
from .preference_settings import START, Guidance
from .preference_trainer import Collect, PreferenceTrainer
from .rounds import Rounds
from .settings import Settings
from .workers import Rollouts


def preference_trainer(
    settings: Settings,
    folder: Path,
    model: Bagel,
    replayer: Replayer,
    tasks: Sequence[Task],
    rollouts: Rollouts,
    args: TrainingArguments,
    **kwargs: Any,
) -> PreferenceTrainer:
    """The trainer; a drawing's verdict is its outcome, less what images cost (``settings.credit``).

    Args:
        settings: With ``preference``.
        folder: Of the run; pairs are kept in it.
        model: Learns.
        replayer: Packs trajectories.
        tasks: One for each prompt of each generation.
        rollouts: Draws, and judges.
        args: Settings of transformers.
        kwargs: Of ``Trainer``.
    """
    preference, credit = settings.preference, settings.credit
    assert preference is not None and settings.lora is not None

    def rounds(collect: Collect) -> Rounds:
        return Rounds(
            folder / "pairs",
            _generations(settings, tasks, rollouts, collect),
            Outcome(price_per_image=credit.price, stop_bonus=credit.stop_bonus).value,
            num_rounds=preference.rounds,
            epochs=preference.epochs,
            max_missing=settings.reward.max_missing,
        )

    return PreferenceTrainer(
        model,
        replayer,
        PreferenceObjective(
            sampling=settings.sampling,
            beta_text=preference.beta_text,
            beta_flow=preference.beta_flow,
            num_states=preference.states,
        ),
        rounds,
        args,
        peft_config=adapters(settings.lora),
        gen_learning_rate=settings.flow.lr,
        micro_batch=settings.micro_batch // 2,
        guide=None if preference.guidance is None else _guide(settings, preference.guidance),
        guidance=0.0 if preference.guidance is None else preference.guidance.coef,
        **kwargs,
    )


def _generations(settings: Settings, tasks: Sequence[Task], rollouts: Rollouts, collect: Collect) -> Generations:
    return Generations(
        tasks=tasks,
        rollouts=rollouts,
        collect=collect,
        num=settings.steps,
        prompts=settings.prompts,
        group=settings.group,
        seed=settings.seed,
        chunk_size=settings.rollout.chunk,
        max_staleness=0,
        processes=1,
        rank=0,
    )


def _guide(settings: Settings, guidance: Guidance) -> Guide:
    """The verifier: another copy of the start, with its adapter."""
    path, dtype, device = checkpoint_of(settings.policy), settings.dtype, settings.device
    adapter = None if guidance.adapter == START else guidance.adapter
    return Guide(Understanding.load(path, adapter, dtype=dtype, device=device), below=guidance.below)
