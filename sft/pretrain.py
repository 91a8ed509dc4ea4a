"""Pre-train a tiny BAGEL on the mini-world: one loop, from top to bottom.

    python -m strokes.sft.pretrain out=outputs/draw mixture=draw
    python -m strokes.sft.pretrain out=outputs/tiny mixture=process init=outputs/draw/checkpoint

Given again, the command resumes from ``state.pt`` (written every ``save_every`` steps, and on SIGTERM) and draws
what it would have drawn: each step has its own generators, derived from (seed, step).
"""

import dataclasses
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from ..agents.bagel.checkpoint import load, save
from ..agents.bagel.config import BagelConfig
from ..agents.bagel.model import Bagel
from ..agents.bagel.sequence import Item, pack
from ..agents.bagel.tokenizer import Tokenizer
from ..agents.command import run_training
from ..agents.run_folder import RunFolder, stop_requests
from .average import Average
from .collator import Collator, Example, ImageTable, Words, from_transcript
from .cost import num_flops, num_tokens
from .mixture import HABITS, Builder, encode_latents, read_examples, write_examples
from .self_sampling import own_transcripts
from .tokenizer import build_tokenizer

PRESETS = {"tiny": BagelConfig.tiny, "nano": BagelConfig.nano}
LOG_EVERY = 50
"""Steps over which a line of the log takes its means."""


def train(cfg: DictConfig) -> bool:
    """The loop. Minimises ``ce_weight`` · cross entropy + flow loss; see ``Bagel.forward``.

    Returns:
        Whether the run is finished; false where it was asked to stop.

    Raises:
        ValueError: The folder holds a run with other settings, or an input is missing.
    """
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    folder = RunFolder(cfg.out, settings, free_settings(cfg))
    if folder.metrics is not None and folder.metrics["tokens"] >= cfg.tokens:
        print(f"{cfg.out} is finished: {folder.metrics}", flush=True)
        return True
    torch.manual_seed(cfg.seed)
    model, tokenizer = make_model(cfg, folder.path)
    feed = Feed(cfg, model.config, *build(cfg, model, tokenizer))
    folder.begin()
    model.to(cfg.device).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, cfg.weight_decay), cfg.lr, betas=tuple(cfg.betas), fused=True)
    average = Average(model, cfg.ema)
    step, tokens, seconds = 0, 0, 0.0
    if (saved := folder.load_state()) is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.load(saved["average"])
        step, tokens, seconds = saved["step"], saved["tokens"], saved["seconds"]
    flops = feed.flops_before(step)
    recent: dict[str, list[float]] = {"mse": [], "ce": [], "norm": []}

    with stop_requests() as stop:
        while tokens < cfg.tokens and not stop.is_set():
            started = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(tokens / cfg.tokens, step, cfg)
            samples, new_tokens, new_flops = feed.step(step)
            batch = pack(samples, model.config, tokenizer.ids, row_length=cfg.row_length).to(cfg.device)
            noise = np.random.default_rng([cfg.seed, 8, step]).integers(2**62)
            generator = torch.Generator(cfg.device).manual_seed(int(noise))
            output = model(batch, generator=generator, ce_weight=cfg.ce_weight)
            output.loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(average.live.values(), cfg.clip, error_if_nonfinite=True)
            optimizer.step()
            optimizer.zero_grad()
            average.update(step)
            for name, value in (("mse", output.mse_loss), ("ce", output.ce_loss), ("norm", norm)):
                recent[name].append(value.item())
            step, tokens, flops = step + 1, tokens + new_tokens, flops + new_flops
            seconds += time.perf_counter() - started
            if step % LOG_EVERY == 0:
                means = {name: round(float(np.mean(values)), 4) for name, values in recent.items()}
                recent = {name: [] for name in recent}
                folder.log(step=step, tokens=tokens, flops=flops, seconds=round(seconds, 1), **means)
                losses = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
                speed = f"{tokens / seconds:.0f} tokens/s"
                print(f"step {step}  tokens {tokens}/{cfg.tokens}  {losses}  {flops:.3g} flops  {speed}", flush=True)
            if step % cfg.save_every == 0 or tokens >= cfg.tokens or stop.is_set():
                position = {"step": step, "tokens": tokens, "seconds": seconds}
                weights = {"model": model.state_dict(), "average": list(average.weights.values())}
                folder.save_state(**weights, optimizer=optimizer.state_dict(), **position)

    if tokens < cfg.tokens:
        print(f"stopped after step {step}, tokens {tokens}/{cfg.tokens}; the same command goes on", flush=True)
        return False
    save(folder.path / "checkpoint", model, dtype=torch.bfloat16, state=model.state_dict() | average.weights)
    tokenizer.save(folder.path / "checkpoint")
    metrics = {"steps": step, "tokens": tokens, "flops": flops, "seconds": round(seconds, 1)}
    folder.finish(metrics | {"parameters": sum(weight.numel() for weight in average.live.values())})
    print(f"{cfg.out} is finished: {folder.metrics}", flush=True)
    return True


def free_settings(cfg: DictConfig) -> set[str]:
    """Settings that may change when a run goes on: where things lie and, at a constant rate, how long it is."""
    return {"out", "data", "save_every"} | ({"tokens"} if cfg.flat >= 1 else set())


def learning_rate(progress: float, step: int, cfg: DictConfig) -> float:
    """Warm-up, flat, cosine to 2 % of the peak; ``progress`` in [0, 1]."""
    decay = max(0.0, (progress - cfg.flat) / max(1e-9, 1 - cfg.flat))
    return cfg.lr * min(1, (step + 1) / cfg.warmup) * max(0.02, 0.5 + 0.5 * math.cos(math.pi * decay))


def make_model(cfg: DictConfig, out: Path) -> tuple[Bagel, Tokenizer]:
    """A fresh model with a trained autoencoder, or the one of ``init``."""
    if cfg.init is not None:
        if not Path(cfg.init).is_dir():
            raise ValueError(
                f"Expected init to be the folder of a checkpoint, got {str(cfg.init)!r}; finish the run "
                "that writes it first, or leave init out."
            )
        return load(cfg.init, dtype=torch.float32), Tokenizer.load(cfg.init)
    if cfg.preset not in PRESETS:
        raise ValueError(f"Expected preset to be one of {', '.join(PRESETS)}, got {cfg.preset!r}.")
    if not Path(cfg.autoencoder).is_file():
        raise ValueError(
            f"Expected autoencoder to be a trained one, got no file {str(cfg.autoencoder)!r}; make it with "
            "`python -m strokes.sft.autoencoder --out outputs/autoencoder`."
        )
    if not (out / "tokenizer" / "tokenizer_config.json").exists():
        build_tokenizer(out / "tokenizer")
    tokenizer = Tokenizer.load(out / "tokenizer")
    saved = torch.load(cfg.autoencoder, weights_only=True)
    config = PRESETS[cfg.preset](vocab_size=len(tokenizer))
    factors = {"scale_factor": saved["scale_factor"], "shift_factor": saved["shift_factor"]}
    config.vae_config = dataclasses.replace(config.vae_config, **factors)
    model = Bagel(config)
    model.vae.load_state_dict({f"kl.{name}": value for name, value in saved["model"].items()})
    return model, tokenizer


def build(cfg: DictConfig, model: Bagel, tokenizer: Tokenizer) -> tuple[ImageTable, dict[str, list[Example]]]:
    """The mixture's examples: read from ``cfg.data`` if it is there, else built and written."""
    path = Path(cfg.data)
    if path.exists():
        table, examples = read_examples(path)
        _check_data(cfg, table, examples, model.config)
        return table, examples
    table, examples = ImageTable(), {}
    builder = Builder(tokenizer, table, model.config.vae_transform[0])
    for kind, part in cfg.mixture.items():
        if kind == "own":
            own = own_transcripts(model, tokenizer, HABITS, part.num, cfg.seed)
            examples["own"] = [from_transcript(transcript, tokenizer, table) for transcript in own]
        else:
            examples[str(kind)] = builder.build(str(kind), part.num, cfg.seed)
        print(f"{kind}: {part.num} examples, {len(table.images)} images in all", flush=True)
    encode_latents(model, table)
    write_examples(path, table, examples)
    return table, examples


def _check_data(
    cfg: DictConfig, table: ImageTable, examples: Mapping[str, Sequence[Example]], config: BagelConfig
) -> None:
    wanted = {str(kind): part.num for kind, part in cfg.mixture.items()}
    found = {kind: len(part) for kind, part in examples.items()}
    side, width = config.vae_transform[0], config.latent_dim
    ids = (i for part in examples.values() for e in part for s in e if isinstance(s, Words) for i in s.ids)
    if wanted != {kind: found.get(kind) for kind in wanted}:
        problem = f"the numbers of examples {wanted} of the mixture, got {found}"
    elif table.images and (table.images[0].shape[0], table.latents.shape[-1]) != (side, width):
        shape = (table.images[0].shape[0], table.latents.shape[-1])
        problem = f"images of {side} pixels with {width} channels of latents, got {shape[0]} and {shape[1]}"
    elif max(ids, default=0) >= config.llm_config.vocab_size:
        problem = f"ids of a tokenizer with {config.llm_config.vocab_size} of them, got larger ones"
    else:
        return
    raise ValueError(f"Expected in {str(cfg.data)!r} {problem}; give data=… another path and it is built there.")


class Feed:
    """The mixture: examples in memory, and each step's items."""

    def __init__(
        self, cfg: DictConfig, config: BagelConfig, table: ImageTable, examples: Mapping[str, Sequence[Example]]
    ) -> None:
        self.batch_tokens, self.seed = cfg.batch_tokens, cfg.seed
        self.kinds = [str(kind) for kind in cfg.mixture]
        self.examples = [examples[kind] for kind in self.kinds]
        parts = [cfg.mixture[kind] for kind in self.kinds]
        shares = np.array([part.share for part in parts], float)
        self.shares = shares / shares.sum()
        self.collators = [Collator(table=table, copies=part.copies, **cfg.dropout) for part in parts]
        pairs = list(zip(self.examples, parts, strict=True))
        self.lengths = [[num_tokens(e, part.copies, config) for e in of_kind] for of_kind, part in pairs]
        self.flops = [[num_flops(e, part.copies, config) for e in of_kind] for of_kind, part in pairs]

    def step(self, index: int) -> tuple[list[list[Item]], int, int]:
        """Items of step ``index``, their tokens and floating-point operations."""
        rng = np.random.default_rng([self.seed, 7, index])
        chosen = self._choose(rng)
        samples: list[list[Item]] = []
        for kind, collator in enumerate(self.collators):
            samples += collator([self.examples[kind][k] for other, k in chosen if other == kind], rng)
        tokens, flops = (sum(cost[kind][k] for kind, k in chosen) for cost in (self.lengths, self.flops))
        return samples, tokens, flops

    def flops_before(self, index: int) -> int:
        """Floating-point operations of all steps before step ``index``; their choices are drawn once more."""
        choices = (self._choose(np.random.default_rng([self.seed, 7, k])) for k in range(index))
        return sum(self.flops[kind][k] for chosen in choices for kind, k in chosen)

    def _choose(self, rng: np.random.Generator) -> list[tuple[int, int]]:
        """Number of the kind and of the example of it, until a step has its tokens."""
        chosen: list[tuple[int, int]] = []
        tokens = 0
        while tokens < self.batch_tokens:
            kind = int(rng.choice(len(self.kinds), p=self.shares))
            k = int(rng.integers(len(self.examples[kind])))
            chosen.append((kind, k))
            tokens += self.lengths[kind][k]
        return chosen


def parameter_groups(model: Bagel, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay, vectors without; the autoencoder stays as it is."""
    model.vae.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


def main() -> int:
    """The command; its exit code is 143 where it was asked to stop before the end."""
    return run_training(lambda cfg, _: train(cfg), "pretrain")


if __name__ == "__main__":
    sys.exit(main())
