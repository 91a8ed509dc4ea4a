"""Pre-train a tiny BAGEL on the mini-world: one loop, from top to bottom.

    python -m strokes.sft.pretrain out=outputs/draw
    python -m strokes.sft.pretrain out=outputs/tiny init=outputs/draw/checkpoint tokens=... 'mixture={...}'

Given again, the command resumes from ``state.pt`` (written every ``save_every`` steps) and draws what it
would have drawn: each step has its own generators, derived from (seed, step).
"""

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from ..agents.bagel.checkpoint import load, save
from ..agents.bagel.config import BagelConfig
from ..agents.bagel.model import Bagel
from ..agents.bagel.sequence import Item, pack
from ..agents.bagel.tokenizer import Tokenizer
from ..envs.scenes.language import VOCABULARY
from .collator import Collator, Example, ImageTable, Words
from .mixture import Builder, encode_latents, read_examples, write_examples
from .tokenizer import build_tokenizer


def learning_rate(progress: float, step: int, cfg: DictConfig) -> float:
    """Warm-up, flat, cosine to 2 % of the peak; ``progress`` in [0, 1]."""
    decay = max(0.0, (progress - cfg.flat) / max(1e-9, 1 - cfg.flat))
    return cfg.lr * min(1, (step + 1) / cfg.warmup) * max(0.02, 0.5 + 0.5 * math.cos(math.pi * decay))


def make_model(cfg: DictConfig, out: Path) -> tuple[Bagel, Tokenizer]:
    """A fresh model with a trained autoencoder, or the one of ``init``."""
    if cfg.init is not None:
        return load(cfg.init, dtype=torch.float32), Tokenizer.load(cfg.init)
    texts = [f"{before}{word}" for word in VOCABULARY for before in ("", " ", ">", " a ")]
    vocab_size = build_tokenizer(texts, out / "tokenizer")
    tokenizer = Tokenizer.load(out / "tokenizer")
    saved = torch.load(cfg.autoencoder, weights_only=True)
    preset = getattr(BagelConfig, cfg.preset)
    config = preset(vocab_size=vocab_size)
    factors = {"scale_factor": saved["scale_factor"], "shift_factor": saved["shift_factor"]}
    config.vae_config = dataclasses.replace(config.vae_config, **factors)
    model = Bagel(config)
    model.vae.load_state_dict({f"kl.{name}": value for name, value in saved["model"].items()})
    return model, tokenizer


def build(cfg: DictConfig, model: Bagel, tokenizer: Tokenizer) -> tuple[ImageTable, dict[str, list[Example]]]:
    """The mixture's examples: read from ``cfg.data`` if it is there, else built and written."""
    path = Path(cfg.data)
    if path.exists():
        return read_examples(path)
    table = ImageTable()
    builder = Builder(tokenizer, table, model.config.vae_transform[0])
    examples: dict[str, list[Example]] = {}
    for kind, part in cfg.mixture.items():
        examples[str(kind)] = builder.build(str(kind), part.num, cfg.seed)
        print(f"{kind}: {part.num} examples, {len(table.images)} images in all", flush=True)
    encode_latents(model, table)
    write_examples(path, table, examples)
    return table, examples


class Feed:
    """The mixture: examples in memory, and each step's items."""

    def __init__(self, cfg: DictConfig, model: Bagel, tokenizer: Tokenizer) -> None:
        self.table, self.examples = build(cfg, model, tokenizer)
        self.kinds = list(self.examples)
        shares = np.array([cfg.mixture[kind].share for kind in self.kinds], float)
        self.shares = shares / shares.sum()
        self.collators = {
            k: Collator(table=self.table, copies=cfg.mixture[k].copies, **cfg.dropout) for k in self.kinds
        }
        self.lengths = {
            kind: [num_tokens(e, cfg.mixture[kind].copies, model.config) for e in examples]
            for kind, examples in self.examples.items()
        }
        self.row_length = max(cfg.row_length, *map(max, self.lengths.values()))
        self.batch_tokens, self.seed = cfg.batch_tokens, cfg.seed

    def step(self, index: int) -> tuple[list[list[Item]], dict[str, int]]:
        """Items of step ``index``, and the tokens each kind has in them."""
        rng = np.random.default_rng([self.seed, 7, index])
        chosen: dict[str, list[Example]] = {kind: [] for kind in self.kinds}
        samples: list[list[Item]] = []
        tokens = dict.fromkeys(self.kinds, 0)
        while sum(tokens.values()) < self.batch_tokens:
            kind = self.kinds[rng.choice(len(self.kinds), p=self.shares)]
            k = rng.integers(len(self.examples[kind]))
            chosen[kind].append(self.examples[kind][k])
            tokens[kind] += self.lengths[kind][k]
        for kind, examples in chosen.items():
            samples += self.collators[kind](examples, rng)
        return samples, tokens


def num_tokens(example: Example, copies: int, config: BagelConfig) -> int:
    """Tokens of an example in a pack, markers included."""
    side = config.vae_transform[0]
    latent = (side // config.latent_stride) ** 2 + 2
    vit = (side // config.vit_config.patch_size) ** 2 + 2
    return sum(
        len(segment.ids) + 2
        if isinstance(segment, Words)
        else segment.loss * copies * latent + segment.context * (latent + vit)
        for segment in example
    )


def parameter_groups(model: Bagel, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay, vectors without; the autoencoder stays as it is."""
    model.vae.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


class Average:
    """Exponential moving average of the trained weights; starts fast so that short runs lose nothing."""

    def __init__(self, model: Bagel, decay: float) -> None:
        self.decay, self.live = decay, [p for p in model.parameters() if p.requires_grad]
        self.weights = [p.detach().clone() for p in self.live]

    def update(self, step: int) -> None:
        """After step ``step``."""
        torch._foreach_lerp_(
            self.weights, [p.detach() for p in self.live], 1 - min(self.decay, (1 + step) / (10 + step))
        )

    def swap(self) -> None:
        """Exchange the average and the live weights; twice is nothing."""
        for mine, theirs in zip(self.weights, self.live, strict=True):
            kept = theirs.data.clone()
            theirs.data.copy_(mine)
            mine.copy_(kept)


def train(cfg: DictConfig) -> None:
    """The loop."""
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(cfg.seed)
    model, tokenizer = make_model(cfg, out)
    feed = Feed(cfg, model, tokenizer)
    optimizer = torch.optim.AdamW(parameter_groups(model, cfg.weight_decay), cfg.lr, betas=tuple(cfg.betas), fused=True)
    average = Average(model, cfg.ema)
    step, tokens, seconds = 0, 0, 0.0
    state = out / "state.pt"
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.weights = saved["average"]
        step, tokens, seconds = saved["step"], saved["tokens"], saved["seconds"]
    model.train()
    mean: dict[str, float] = {}
    while tokens < cfg.tokens:
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(tokens / cfg.tokens, step, cfg)
        samples, parts = feed.step(step)
        batch = pack(samples, model.config, tokenizer.ids, row_length=feed.row_length)
        noise = torch.Generator().manual_seed(int(np.random.default_rng([cfg.seed, 8, step]).integers(2**62)))
        output = model(batch, generator=noise, ce_weight=cfg.ce_weight)
        output.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(average.live, cfg.clip)
        optimizer.step()
        optimizer.zero_grad()
        average.update(step)
        step, tokens, seconds = step + 1, tokens + sum(parts.values()), seconds + time.perf_counter() - started
        for name, value in {"mse": output.mse_loss, "ce": output.ce_loss, "norm": norm}.items():
            mean[name] = 0.98 * mean.get(name, float(value.detach())) + 0.02 * float(value.detach())
        if step % 50 == 0:
            line = {
                "step": step,
                "tokens": tokens,
                "seconds": round(seconds, 1),
                **{k: round(v, 4) for k, v in mean.items()},
            }
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, f"{tokens / seconds:.0f} tokens/s", flush=True)
        if step % cfg.save_every == 0 or tokens >= cfg.tokens:
            record = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average.weights}
            torch.save({**record, "step": step, "tokens": tokens, "seconds": seconds}, state.with_suffix(".new"))
            state.with_suffix(".new").replace(state)
    average.swap()
    save(out / "checkpoint", model, dtype=torch.bfloat16)
    tokenizer.save(out / "checkpoint")


@hydra.main(version_base=None, config_path="pkg://strokes.configs", config_name="pretrain")
def main(cfg: DictConfig) -> None:
    """The command."""
    OmegaConf.resolve(cfg)
    train(cfg)


if __name__ == "__main__":
    main()
