"""What a sample is made of: texts and images as the model reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Drawn(NamedTuple):
    """How tokens were drawn: the distribution that their log-probs are to be of."""

    temperature: float = 1.0
    """Divides the logits; above 0."""
    allowed: Sequence[Sequence[int] | None] = ()
    """Ids that each could be drawn from, ``None``: the whole vocabulary; empty: all from the whole vocabulary."""


PLAIN = Drawn()
"""The model's own distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A turn of text, ``<|im_start|> ids <|im_end|>``."""

    ids: Sequence[int]
    """Token ids without the markers."""
    loss: bool | Sequence[bool] = False
    """Whether the ids and the closing marker are predicted; or one flag for each, (len(ids) + 1,)."""
    switch: int | None = None
    """Token to be predicted at the closing marker: what comes next."""
    weight: float = 1.0
    """Factor on the cross entropy of the text."""
    switch_weight: float = 1.0
    """Factor on the cross entropy of the switch."""
    drawn: Drawn = PLAIN
    """Of the predicted ids and closing marker, in their order."""
    switch_drawn: Drawn = PLAIN
    """Of the switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VitImage:
    """An image as the encoder sees it."""

    pixels: Tensor
    """(3, H, W) in [-1, 1], sides divisible by the patch size."""
    switch: int | None = None
    """Token to be predicted at ``<|vision_end|>``."""
    switch_weight: float = 1.0
    """Factor on the cross entropy of the switch."""
    switch_drawn: Drawn = PLAIN
    """Of the switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeImage:
    """A clean image (t = 0) as latents of the autoencoder. Exactly one of ``latent`` and ``pixels`` is given."""

    latent: Tensor | None = None
    """Patchified latents (tokens, p·p·z)."""
    pixels: Tensor | None = None
    """(3, H, W) in [-1, 1], encoded in the forward pass; see ``Bagel.forward``."""
    grid: tuple[int, int] | None = None
    """(rows, columns) of ``latent``; ``None``: square."""
    switch: int | None = None
    """Token to be predicted at ``<|vision_end|>``."""
    switch_weight: float = 1.0
    """Factor on the cross entropy of the switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyImage:
    """An image to be denoised: (1 - t)·clean + t·noise, with the flow loss on its tokens.

    It is seen by no other item and does not advance the rotary position, so several copies may stand side by side.
    """

    latent: Tensor | None = None
    """Clean patchified latents (tokens, p·p·z). Exactly one of ``latent`` and ``pixels`` is given."""
    pixels: Tensor | None = None
    """(3, H, W) in [-1, 1], encoded in the forward pass."""
    grid: tuple[int, int] | None = None
    """(rows, columns) of ``latent``; ``None``: square."""
    t: float | None = None
    """Raw timestep, before sigmoid and shift; ``None``: drawn from N(0, 1)."""
    weight: Tensor | float = 1.0
    """Factor on the flow loss, of each token if (tokens,)."""
    sees: int | None = None
    """See only the first ``sees`` items of the sample, at the rotary position after them; ``None``: all before.

    Before the last text that is exactly the text-unconditional context of guidance, so condition dropout
    in training is a noisy copy with a smaller ``sees``.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class StateImage:
    """A state of the flow at a known time, for replay: its velocity is computed, without a loss."""

    state: Tensor
    """x_t, (tokens, p·p·z)."""
    time: float
    """t in [0, 1], final (shifted)."""
    grid: tuple[int, int] | None = None
    """(rows, columns) of ``state``; ``None``: square."""
    sees: int | None = None
    """As in ``NoisyImage``."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What official training leaves of a dropped context image: no tokens, one rotary position."""


Item = Text | VitImage | VaeImage | NoisyImage | StateImage | Dropped
LatentItem = VaeImage | NoisyImage | StateImage
