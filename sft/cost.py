"""What training on an example costs, in tokens and in floating-point operations."""

from collections.abc import Mapping

from ..agents.bagel.config import BagelConfig
from .collator import Example, Words

Sizes = Mapping[int, tuple[int, int]]
"""Latents and patches of the images of a table's rows, without markers."""


def tokens_of(config: BagelConfig, drawn: tuple[int, int], seen: tuple[int, int]) -> tuple[int, int]:
    """Latents and patches, without markers, of an image with these sides where it is drawn and where it is seen."""
    stride, patch = config.latent_stride, config.vit_config.patch_size
    return (drawn[0] // stride) * (drawn[1] // stride), (seen[0] // patch) * (seen[1] // patch)


def image_tokens(config: BagelConfig) -> tuple[int, int]:
    """Latents and patches of one canvas, without markers."""
    canvas = config.vae_transform[0], config.vae_transform[0]
    return tokens_of(config, canvas, canvas)


def num_tokens(example: Example, copies: int, config: BagelConfig, sizes: Sizes | None = None) -> int:
    """Tokens of an example in a pack, markers included.

    Args:
        example: What is packed.
        copies: Noisy copies of an image.
        config: Of the model.
        sizes: Of its images; ``None``: all are of the canvas.
    """
    canvas, total = image_tokens(config), 0
    for segment in example:
        if isinstance(segment, Words):
            total += len(segment.ids) + 2
        else:
            latents, patches = canvas if sizes is None else sizes[segment.row]
            total += segment.loss * copies * (latents + 2) + segment.context * (latents + patches + 4)
    return total


def num_flops(example: Example, copies: int, config: BagelConfig, sizes: Sizes | None = None) -> int:
    """Floating-point operations of one forward and backward pass over an example.

    6 for each weight that a token passes (2 forward, 4 backward) and 12 · layers · width for each token that it
    sees (arXiv 2001.08361, section 2.1), summed over the tokens: each passes one expert; latents pass the linear
    layers into and out of the backbone too, patches the image encoder and its connector, a token that predicts
    the head. Left out: norms, embeddings, the optimiser, condition dropout, padding, and the autoencoder,
    whose latents are computed once.
    """
    llm, vit = config.llm_config, config.vit_config
    width, inner = llm.hidden_size, vit.hidden_size
    canvas = image_tokens(config)
    projections = 2 * width * (width + llm.num_key_value_heads * llm.head_dim)
    expert = 6 * llm.num_hidden_layers * (projections + 3 * width * llm.intermediate_size)
    attention = 12 * llm.num_hidden_layers * width
    head = 6 * width * llm.vocab_size
    latent = 6 * config.latent_dim * width
    encoder = vit.layers_used * (24 * inner**2 + 12 * inner * vit.intermediate_size)
    encoder += 6 * (vit.patch_size**2 * 3 * inner + inner * width + width**2)

    total = seen = 0
    for segment in example:
        total += head * (segment.switch is not None)
        if isinstance(segment, Words):
            length = len(segment.ids) + 2
            total += length * (expert + attention * seen) + attention * length * (length + 1) // 2
            total += head * segment.loss * (length - 1)
            seen += length
            continue
        latents, patches = canvas if sizes is None else sizes[segment.row]
        length = latents + 2
        if segment.loss:
            total += copies * (length * (expert + attention * (seen + length)) + latents * 2 * latent)
        if segment.context:
            total += length * (expert + attention * (seen + length)) + latents * latent
            seen += length
            length = patches + 2
            total += length * (expert + attention * (seen + length))
            total += patches * (encoder + vit.layers_used * 12 * inner * patches)
            seen += length
    return total
