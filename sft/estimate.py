"""Estimate: what a training will take, reckoned on the ``meta`` device, without weights and data.

Memory of each GPU under FSDP2: float32 weights, their gradients, AdamW's two moments and the average, all in shards;
beside them, in the precision of the pass, the layer that is gathered and the one that is fetched ahead. Activations
of a full pack are left out but for what gradient checkpointing keeps: one hidden state of each layer. Tokens and
operations are those of packs as they come out of trajectories of one to five images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..agents.bagel.checkpoint import read_config
from ..agents.bagel.config import BagelConfig
from ..agents.bagel.items import Item, NoisyImage, Text, VaeImage, VitImage
from ..agents.bagel.model import Bagel
from ..agents.bagel.sequence import pack
from ..agents.bagel.tokenizer import TokenIds
from ..agents.bagel.transforms import ImageTransform
from ..agents.lora import adapters
from .collator import Example, Picture, Words
from .cost import Sizes, num_flops, num_tokens, tokens_of
from .job import PAPER, adapt, checkpoint_of
from .packing import Packing
from .train_settings import Settings

WORDS = 100
"""Tokens of a plan or an inspection (the paper: about 200 a step)."""
ROUNDS = (1, 2, 3, 4, 5)
"""Images of the trajectories that are reckoned with, equally often; the paper's multi-turn ones have 3.51 on average,
those of the other subsets fewer."""
EACH = 100
"""Trajectories of each length that are packed."""
GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What packs hold."""

    examples: Sequence[Example]
    """Trajectories of a data set that all steps draw from."""
    sizes: Sizes
    packing: Packing

    @property
    def filled(self) -> float:
        """Tokens of a pack, on average."""
        return (1 - self.packing.waste()) * self.packing.budget


def estimate(settings: Settings) -> str:
    """The figures as a table."""
    model = meta_model(settings)
    load = load_of(settings, model.config)
    usable = [load.examples[index] for choices in load.packing.epoch(0) for _, index in choices]
    every = sum(num_flops(each, settings.data.copies, model.config, load.sizes) for each in usable)
    flops = every / len(load.packing.epoch(0)) * settings.packs
    tokens = round(load.filled * settings.packs)
    lines = [f"{name:28} {value}" for name, value in _parameters(model).items()]
    lines += [f"{name:28} {value:8.2f} GiB" for name, value in memory(settings, model, load).items()]
    lines += [
        f"{'host memory while loading':28} {host_memory(settings, model):8.2f} GiB: each process reads all weights",
        f"{'packs':28} {load.filled:,.0f} tokens on average, {load.packing.waste():.1%} empty",
        f"{'tokens of a step':28} {tokens:,}, at most {settings.packs * settings.tokens:,}",
        f"{'tokens in all':28} {tokens * settings.steps:,}",
        f"{'operations of a step':28} {flops:.3g}",
        f"{'operations in all':28} {flops * settings.steps:.3g}",
        f"{'forward pass on meta':28} {_forward(settings, model, load)}",
    ]
    return "\n".join(lines)


def meta_model(settings: Settings) -> Bagel:
    """The model without weights, as a run would train it."""
    init = settings.model.init
    config = BagelConfig.bagel_7b() if init == PAPER else read_config(checkpoint_of(init))
    with torch.device("meta"):
        model = Bagel(config)
        adapt(model, settings.model)
        if settings.lora is not None:
            from peft import get_peft_model

            get_peft_model(model, adapters(settings.lora))  # puts them into the model itself
    return model


def memory(settings: Settings, model: Bagel, load: Load) -> dict[str, float]:
    """GiB on each GPU."""
    shards = settings.gpus if settings.fsdp else 1
    every = sum(p.numel() for p in model.parameters())
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    held = 2 if settings.precision == "bf16" else 4
    layer = sum(p.numel() for p in model.language_model.model.layers[0].parameters())
    hidden = settings.tokens * model.config.llm_config.hidden_size * len(model.language_model.model.layers)
    found = {
        "weights": (learnt * 4 + (every - learnt) * _frozen(settings)) / shards,
        "gradients": learnt * 4 / shards,
        "optimizer": learnt * 8 / shards,
        "average": learnt * 4 / shards,
        "gathered layers": 2 * layer * held if settings.fsdp else 0,
        "kept activations": hidden * held if settings.gradient_checkpointing else 0,
        "logits of the text": settings.tokens * _predicted(load) * 4 * model.config.llm_config.vocab_size,
    }
    return {name: value / GIB for name, value in found.items()} | {"together": sum(found.values()) / GIB}


def host_memory(settings: Settings, model: Bagel) -> float:
    """GiB of all processes on one machine before weights are in shards."""
    adapters_alone = sum(p.numel() * (4 if p.requires_grad else _frozen(settings)) for p in model.parameters())
    whole = sum(p.numel() for p in model.parameters()) * 4
    return settings.gpus * (whole if settings.lora is None else adapters_alone) / GIB


def _frozen(settings: Settings) -> int:
    """Bytes of a weight that does not learn."""
    return 2 if settings.lora is not None and settings.precision == "bf16" else 4


def _predicted(load: Load) -> float:
    """Share of tokens that a text or a switch is predicted from."""
    words = sum(len(s.ids) + 1 for e in load.examples for s in e if isinstance(s, Words) and s.loss)
    switches = sum(s.switch is not None for e in load.examples for s in e)
    return (words + switches) / load.packing.lengths[0].sum()


def load_of(settings: Settings, config: BagelConfig) -> Load:
    """Packs of trajectories of one to five images.

    Raises:
        ValueError: One that is longer than a pack, unless such are to be left out.
    """
    sizes = dict.fromkeys(range(max(ROUNDS)), tokens_of(config, *_canvases(config)))
    examples = [_example(rounds) for rounds in ROUNDS for _ in range(EACH)]
    names = [f"of {rounds} images" for rounds in ROUNDS for _ in range(EACH)]
    lengths = np.array([num_tokens(example, settings.data.copies, config, sizes) for example in examples])
    packing = Packing([lengths], settings.tokens, seed=settings.seed, on_long=settings.data.on_long, names=[names])
    return Load(examples=examples, sizes=sizes, packing=packing)


def _example(rounds: int) -> Example:
    """So many plans, sketches and inspections."""
    words = Words((0,) * WORDS, True, 0)
    segments: list[Words | Picture] = [Words((0,) * 30, False, 0)]
    for row in range(rounds):
        segments += [words, Picture(row, True, True, None, 0), words]
    return tuple(segments)


def _canvases(config: BagelConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    side = config.vae_transform[0]
    transforms = (ImageTransform(*config.vae_transform), ImageTransform(*config.vit_transform))
    first, second = (transform.size(side, side) for transform in transforms)
    return first, second


def _forward(settings: Settings, model: Bagel, load: Load) -> str:
    """A forward pass of the pack on the meta device but for attention, whose rows depend on values: shapes fit."""
    canvas, seen = _canvases(model.config)
    latent = torch.zeros(tokens_of(model.config, canvas, seen)[0], model.config.latent_dim)
    pixels = torch.zeros(3, *reversed(seen))
    samples: list[list[Item]] = []
    for _, index in load.packing[0]:
        samples.append([])
        for segment in load.examples[index]:
            if isinstance(segment, Words):
                samples[-1].append(Text(ids=segment.ids, loss=segment.loss, switch=segment.switch))
            else:
                drawn = [NoisyImage(latent=latent, t=0.0)] * settings.data.copies
                samples[-1] += [*drawn, VaeImage(latent=latent), VitImage(pixels=pixels, switch=0)]
    ids = TokenIds(bos_token_id=0, eos_token_id=1, start_of_image=2, end_of_image=3)
    packed = pack(samples, model.config, ids, row_length=settings.row_length, rng=np.random.default_rng(0))
    packed = packed.to("meta")
    with torch.no_grad():
        embedded = model.embed_pack(packed, packed.latents)
        hidden = model.language_model.model(embedded, packed.positions, packed.routing, lambda layer, q, k, v: q)
        logits = model.logits(hidden[packed.ce.index])
        velocity = model.velocity(hidden[packed.noisy])
    return f"hidden states {_shape(hidden)}, logits {_shape(logits)}, velocities {_shape(velocity)}"


def _shape(values: Tensor) -> str:
    return " x ".join(map(str, values.shape))


def _parameters(model: Bagel) -> dict[str, str]:
    count: dict[str, torch.nn.Module] = {
        "parameters": model,
        "of the autoencoder": model.vae,
        "of the image encoder": model.vit_model,
    }
    found = {name: f"{sum(p.numel() for p in part.parameters()):,}" for name, part in count.items()}
    return found | {"that learn": f"{sum(p.numel() for p in model.parameters() if p.requires_grad):,}"}
