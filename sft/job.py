"""A run of supervised training, put together: model, data, packs, what is looked at, transformers' settings."""

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainingArguments

from ..agents.bagel.checkpoint import load
from ..agents.bagel.model import Bagel
from ..agents.bagel.tokenizer import Tokenizer
from ..agents.callbacks import JsonLog, StopWhenAsked
from ..agents.interleaved import Interleaved
from ..agents.load import NANO, SHIPPED, sampling_of
from ..agents.lora import adapters
from ..agents.one_shot import OneShot
from ..envs.protocols import Policy
from .dataset import Drawing, PackDataset
from .packing import Packing
from .sources import Source, open_source
from .terminal import Terminal
from .train_settings import AT_ONCE, ModelSettings, Settings
from .trainer import SftTrainer
from .validation import HeldOutSlice, StageLosses, Validation

NAMES = {"bagel-tiny": SHIPPED, "bagel-nano": NANO}
"""Checkpoints that ship."""
PAPER = "bagel-7b"
"""What a dry run reckons with where there are no weights."""
EXAMINED = 99
"""Added to a run's seed for what the validation split draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything of a run, put together."""

    trainer: SftTrainer
    tokenizer: Tokenizer
    sources: Sequence[Source]
    packs: PackDataset


def make_job(settings: Settings, folder: Path, stop: threading.Event) -> Job:
    """A run that is ready to begin, or to go on."""
    args = arguments(settings, folder)
    check_folder(folder)
    if settings.model.attention == "flex_attention" and args.device.type == "cpu":
        raise ValueError("Expected model.attention=sdpa on the CPU, got flex_attention, which learns on GPUs alone.")
    checkpoint = checkpoint_of(settings.model.init)
    is_frozen = settings.lora is not None and settings.precision == "bf16"
    model = load(checkpoint, dtype=torch.bfloat16 if is_frozen else torch.float32)
    adapt(model, settings.model)
    tokenizer = Tokenizer.load(checkpoint)
    train_split, validation = read_data(settings, model, tokenizer)
    packs = make_packs(settings, train_split, model, tokenizer)
    model.vae.requires_grad_(False)
    learner: Any = model
    if settings.lora is not None:
        from peft import get_peft_model

        learner = get_peft_model(model, adapters(settings.lora))
    examine = make_validation(settings, validation, model, tokenizer, folder)
    trainer = SftTrainer(
        learner,
        packs,
        args,
        ce_weight=settings.ce_weight,
        decay=settings.ema,
        posterior="mean" if settings.data.latents == "ahead" else "sample",
        examine=examine if settings.evaluation.every else None,
        callbacks=[StopWhenAsked(stop), JsonLog(folder / "log.jsonl"), Terminal()],
    )
    if settings.fsdp and not trainer.is_fsdp_enabled:
        raise ValueError(
            "Expected fsdp=true in processes of torchrun that have a GPU each, got "
            f"{args.world_size} on {args.device.type}, where accelerate leaves weights whole; start it with torchrun, "
            "or set fsdp=false."
        )
    trainer.remove_callback(PrinterCallback)  # prints all figures
    return Job(trainer=trainer, tokenizer=tokenizer, sources=train_split, packs=packs)


def checkpoint_of(init: str) -> Path:
    """The folder of the checkpoint that a run begins with.

    Raises:
        ValueError: There is none.
    """
    path = NAMES.get(init, Path(init))
    if not path.is_dir():
        hint = "; without weights only dry_run=true works" if init == PAPER else ""
        raise ValueError(
            f"Expected model.init to be the folder of a checkpoint or one of {', '.join(NAMES)}, got {init!r}{hint}."
        )
    return path


def check_folder(folder: Path) -> None:
    """All processes have the same folder.

    Raises:
        ValueError: They have not; that which ``out`` is by default depends on the second in which each was started.
    """
    if not torch.distributed.is_initialized():
        return
    folders: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(folders, str(folder.resolve()))
    if len(set(folders)) > 1:
        raise ValueError(f"Expected one folder for all processes, got {', '.join(sorted(set(folders)))}; give out=….")


def adapt(model: Bagel, settings: ModelSettings) -> None:
    """Change what a run changes of a checkpoint's configuration."""
    config = model.config
    if settings.timestep_shift is not None:
        config.timestep_shift = settings.timestep_shift
    for name in ("vae_transform", "vit_transform"):
        if (sizes := getattr(settings, name)) is not None:
            setattr(config, name, tuple(sizes))
    config._attn_implementation = settings.attention


def read_data(settings: Settings, model: Bagel, tokenizer: Tokenizer) -> tuple[list[Source], list[Source]]:
    """Training and validation splits of all subsets."""
    data, pairs = settings.data, []
    for name, subset in data.subsets.items():
        reading = data.reading("final" if name == AT_ONCE else settings.view)
        pairs.append(open_source(name, str(subset.path), model, tokenizer, reading))
        if reading.view == "final" and not len(pairs[-1][0]):
            raise ValueError(
                f"Expected drawings under data.{name}.path that end in an image which is learnt, got none for training "
                f"in {str(subset.path)!r}; take data of multi_turn."
            )
    return [first for first, _ in pairs], [second for _, second in pairs]


def make_packs(settings: Settings, sources: Sequence[Source], model: Bagel, tokenizer: Tokenizer) -> PackDataset:
    """All packs of a run."""
    data = settings.data
    packing = Packing(
        [source.lengths(data.copies) for source in sources],
        settings.tokens,
        shares=data.shares,
        seed=settings.seed,
        on_long=data.on_long,
        names=[[source.names[row] for row in source.rows] for source in sources],
    )
    found = ", ".join(f"{source.name} {len(source)}" for source in sources)
    left_out = sum(map(len, packing.skipped))
    more = f"; {left_out} longer samples left out" if left_out else ""
    num, waste = len(packing.epoch(0)), packing.waste()
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"samples: {found}, in {num} packs of {settings.tokens} tokens, {waste:.1%} empty{more}", flush=True)
    drawing = Drawing(
        copies=data.copies,
        drop_last_text=data.drop_last_text,
        drop_all=data.drop_all,
        changed_weight=data.changed_weight,
    )
    return PackDataset(
        sources,
        packing,
        drawing,
        model.config,
        tokenizer.ids,
        num=settings.steps * settings.packs,
        seed=settings.seed,
        row_length=settings.row_length,
    )


def make_validation(
    settings: Settings, sources: Sequence[Source], model: Bagel, tokenizer: Tokenizer, folder: Path
) -> Validation:
    """What is looked at while learning."""
    wanted = settings.evaluation
    sources = [source for source in sources if len(source) and source.name != AT_ONCE]  # its images are no sketches
    losses = None
    if wanted.packs and sources:
        packing = Packing([s.lengths(1) for s in sources], settings.tokens, seed=settings.seed, on_long="skip")
        packs = PackDataset(
            sources,
            packing,
            Drawing(),
            model.config,
            tokenizer.ids,
            num=min(wanted.packs, len(packing.epoch(0))),
            seed=settings.seed + EXAMINED,
            row_length=settings.row_length,
        )
        losses = StageLosses(packs=packs, posterior="mean")
    drawings = None
    if wanted.heldout:
        drawings = HeldOutSlice(
            make_policy=partial(make_policy, settings, tokenizer),
            limit=wanted.heldout,
            size=settings.policy["size"],
            shown=wanted.shown,
            folder=folder / "samples",
        )
    return Validation(losses=losses, drawings=drawings)


def make_policy(settings: Settings, tokenizer: Tokenizer, model: Bagel) -> Policy:
    """The model as it will be used: in strokes, or at once where that is what it learns."""
    policy = settings.policy
    sampling = sampling_of(policy, policy["steps"], policy["guidance"])
    if settings.view == "final":
        return OneShot(model, tokenizer, sampling)
    return Interleaved(model, tokenizer, sampling, max_tokens=policy["max_tokens"])


def arguments(settings: Settings, folder: Path) -> TrainingArguments:
    """Transformers' settings of a run."""
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    more: dict[str, Any] = {}
    if settings.fsdp:
        # The layers that are wrapped are the model's _no_split_modules; a state in shards needs no process to hold all.
        more = {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}}
        more["fsdp_config"]["activation_checkpointing"] = settings.gradient_checkpointing
    elif settings.gradient_checkpointing:
        more = {"gradient_checkpointing": True}
    looks = settings.evaluation.every
    return TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        seed=settings.seed,
        max_steps=settings.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.accumulation(int(os.environ.get("WORLD_SIZE", 1))),
        learning_rate=settings.lr,
        lr_scheduler_type=settings.lr_schedule,
        lr_scheduler_kwargs=dict(settings.lr_options),
        warmup_steps=settings.warmup,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        adam_epsilon=settings.eps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip,
        bf16=settings.precision == "bf16",
        use_cpu=device == "cpu",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        dataloader_num_workers=settings.workers,
        eval_strategy="steps" if looks else "no",
        eval_steps=looks or None,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=settings.keep,
        logging_steps=settings.log_every,
        logging_nan_inf_filter=False,  # costs a look at every loss; the trainer itself stops at one that is no number
        report_to=list(settings.report_to),
        disable_tqdm=not sys.stderr.isatty(),
        ddp_find_unused_parameters=False,
        **more,
    )
