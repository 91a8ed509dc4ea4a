"""Estimate: what a training will take, reckoned on the ``meta`` device, without weights and data.

Memory of each GPU under FSDP2: float32 weights, their gradients, AdamW's two moments and the average, all in shards;
beside them, in the precision of the pass, the layer that is gathered and the one that is fetched ahead. Activations
are left out but for what gradient checkpointing keeps: one hidden state of each layer.
"""

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
from .cost import Sizes, num_flops, num_tokens
from .job import PAPER, adapt, checkpoint_of
from .train_settings import Settings

WORDS = 100
"""Tokens of a plan or an inspection (the paper: about 200 a step)."""
ROUNDS = 3
"""Images of the trajectory that is reckoned with; the paper's mean is 3.51."""
GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One pack of trajectories that are all alike."""

    example: Example
    sizes: Sizes
    num: int
    """Trajectories in the pack."""
    tokens: int
    """Of them all."""


def estimate(settings: Settings) -> str:
    """The figures as a table."""
    model = meta_model(settings)
    load = load_of(settings, model.config)
    each = num_flops(load.example, settings.data.copies, model.config, load.sizes)
    flops = each * settings.packs * settings.tokens * load.num / load.tokens  # of full packs
    lines = [f"{name:28} {value}" for name, value in _parameters(model).items()]
    lines += [f"{name:28} {value:8.2f} GiB" for name, value in memory(settings, model, load.tokens).items()]
    lines += [
        f"{'trajectories of a pack':28} {load.num} of {ROUNDS} images, {load.tokens // load.num:,} tokens each",
        f"{'tokens of a step':28} {settings.packs * settings.tokens:,}",
        f"{'tokens in all':28} {settings.packs * settings.tokens * settings.steps:,}",
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


def memory(settings: Settings, model: Bagel, tokens: int) -> dict[str, float]:
    """GiB on each GPU."""
    shards = settings.gpus if settings.fsdp else 1
    every = sum(p.numel() for p in model.parameters())
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    held = 2 if settings.precision == "bf16" else 4
    kept = 2 if settings.lora is not None and settings.precision == "bf16" else 4
    layer = sum(p.numel() for p in model.language_model.model.layers[0].parameters())
    found = {
        "weights": (learnt * 4 + (every - learnt) * kept) / shards,
        "gradients": learnt * 4 / shards,
        "optimizer": learnt * 8 / shards,
        "average": learnt * 4 / shards,
        "gathered layers": 2 * layer * held if settings.fsdp else 0,
        "kept activations": tokens * model.config.llm_config.hidden_size * len(model.language_model.model.layers) * held
        if settings.gradient_checkpointing
        else 0,
        "logits of the text": ROUNDS
        * 2
        * WORDS
        * (tokens // _trajectory(model.config, settings))
        * 4
        * model.config.llm_config.vocab_size,
    }
    return {name: value / GIB for name, value in found.items()} | {"together": sum(found.values()) / GIB}


def load_of(settings: Settings, config: BagelConfig) -> Load:
    """A pack as full as it can be."""
    example, sizes = _example(config)
    length = num_tokens(example, settings.data.copies, config, sizes)
    if length > settings.tokens:
        raise ValueError(
            f"Expected tokens to hold a trajectory of {ROUNDS} images, {length}, got {settings.tokens}; raise it, or "
            "lower model.vae_transform."
        )
    num = settings.tokens // length
    return Load(example=example, sizes=sizes, num=num, tokens=num * length)


def _trajectory(config: BagelConfig, settings: Settings) -> int:
    example, sizes = _example(config)
    return num_tokens(example, settings.data.copies, config, sizes)


def _example(config: BagelConfig) -> tuple[Example, Sizes]:
    """A trajectory of ``ROUNDS`` plans, sketches and inspections at the model's largest size."""
    (w, h), (a, b) = _canvases(config)
    stride, patch = config.latent_stride, config.vit_config.patch_size
    words = Words((0,) * WORDS, True, 0)
    segments: list[Words | Picture] = [Words((0,) * 30, False, 0)]
    for row in range(ROUNDS):
        segments += [words, Picture(row, True, True, None, 0), words]
    size = (w // stride) * (h // stride), (a // patch) * (b // patch)
    return tuple(segments), dict.fromkeys(range(ROUNDS), size)


def _canvases(config: BagelConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    side = config.vae_transform[0]
    transforms = (ImageTransform(*config.vae_transform), ImageTransform(*config.vit_transform))
    first, second = (transform.size(side, side) for transform in transforms)
    return first, second


def _forward(settings: Settings, model: Bagel, load: Load) -> str:
    """A forward pass of the pack on the meta device but for attention, whose rows depend on values: shapes fit."""
    (w, h), (a, b) = _canvases(model.config)
    stride = model.config.latent_stride
    latent = torch.zeros((h // stride) * (w // stride), model.config.latent_dim)
    items: list[Item] = []
    for segment in load.example:
        if isinstance(segment, Words):
            items.append(Text(ids=segment.ids, loss=segment.loss, switch=segment.switch))
        else:
            drawn = [NoisyImage(latent=latent, t=0.0)] * settings.data.copies
            items += [*drawn, VaeImage(latent=latent), VitImage(pixels=torch.zeros(3, b, a), switch=0)]
    ids = TokenIds(bos_token_id=0, eos_token_id=1, start_of_image=2, end_of_image=3)
    packed = pack([items] * load.num, model.config, ids, row_length=settings.row_length, rng=np.random.default_rng(0))
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
