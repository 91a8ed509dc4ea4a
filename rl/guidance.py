"""PARM guidance with a gradient: a frozen verifier's opinion of what the policy is about to draw.

PARM (arXiv 2501.13926) adds 0.1 (-log p_yes) to its DPO, p_yes the verifier's probability that an image fits its
prompt. As released, the image is sampled without gradient and the term is a number, a constant that teaches nothing.
Here the verifier looks at the one-step estimate x0 = x_t - t v of the chosen drawing's last image, noised to a small t
and decoded by the autoencoder: all of that, and how the verifier reads it (encoded to latents again, and by its image
encoder), is differentiable, and the term leads v to images that it takes for right. That is a deviation, as are the
question's words and that the policy's own understanding is asked, with a verifier's adapter. One that nobody trained to
answer has opinions all the same: that of bagel-nano is 11 to 28 nats against its drawings, most of them beyond the end
at which PARM holds the probability (``preference.LEAST_YES``), where there is no gradient.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..agents.bagel.context import ContextItem
from ..agents.bagel.items import VaeImage, VitImage
from ..agents.bagel.model import Bagel
from ..agents.bagel.pictures import is_encodable
from ..agents.bagel.sequence import pack
from ..agents.bagel.transforms import ImageTransform
from ..agents.forward_states import ForwardState
from ..agents.replay import Replayed
from ..agents.understanding import Understanding
from ..rewards.parm import ASKED
from .preference import Pair, guided


class Guide:
    """The verifier, asked with gradient."""

    def __init__(self, understanding: Understanding, *, below: float, row_length: int | None = 512) -> None:
        """Args:

        understanding: A model of its own; frozen here.
        below: Greatest t of a state whose estimate is shown.
        row_length: See ``sequence.pack``.
        """
        understanding.model.requires_grad_(False)
        self.understanding, self.below, self.row_length = understanding, below, row_length

    def loss(
        self, model: Bagel, pairs: Sequence[Pair], now: Sequence[Replayed], states: Sequence[Sequence[ForwardState]]
    ) -> Tensor:
        """Sum of -log p_yes over the estimates; 0 where no state is late enough.

        Args:
            model: Decodes.
            pairs: Their chosen drawings are shown.
            now: Replays of chosen, rejected, chosen, ..., with gradient.
            states: Those that they were replayed at.
        """
        latents, shown = [], []
        for pair, replayed, given in zip(pairs, now[::2], states[::2], strict=True):
            last = max((state.emission for state in given), default=-1)
            for v, state in zip(replayed.velocities, given, strict=True):
                if state.emission == last and state.time <= self.below:
                    latents.append(state.state.to(v.device) - state.time * v)
                    shown.append(pair.chosen.transcript)
        if not latents:
            return torch.zeros((), device=model.device)
        size = shown[0].size
        pixels = model.decode_latents(torch.stack(latents), (size, size)).float().clamp(-1, 1)
        return guided(self.log_p_yes(pixels, ASKED["outcome"], [each.prompt for each in shown])).sum()

    def log_p_yes(self, pixels: Tensor, question: str, prompts: Sequence[str]) -> Tensor:
        """Logarithms (N,) of what ``Understanding.answer`` says of images (N, 3, H, W) in [-1, 1]."""
        reader = self.understanding
        samples: list[list[ContextItem]] = []
        for latent, image, prompt in zip(self._encoded(pixels), self._seen(pixels), prompts, strict=True):
            read = reader.laid_out(latent, VitImage(pixels=image), question, prompt)
            samples += [[*read, answer] for answer in reader.taught]
        packed = pack(samples, reader.model.config, reader.tokenizer.ids, row_length=self.row_length)
        logps = -reader.model(packed.to(reader.model.device)).ce
        parts = logps.split([len(answer.ids) + 1 for answer in reader.taught] * len(pixels))
        return torch.stack([part.sum() for part in parts]).reshape(-1, len(reader.taught)).log_softmax(-1)[:, 0]

    def _encoded(self, pixels: Tensor) -> list[VaeImage]:
        """As the autoencoder takes them: resized where it cannot take them as they are."""
        model = self.understanding.model
        stride: int = model.config.latent_stride
        if not is_encodable(model.config, *pixels.shape[-2:]):
            w, h = ImageTransform(*model.config.vae_transform).size(pixels.shape[-1], pixels.shape[-2])
            pixels = F.interpolate(pixels, (h, w), mode="bicubic", antialias=True).clamp(-1, 1)
        grid = (pixels.shape[-2] // stride, pixels.shape[-1] // stride)
        return [VaeImage(latent=latent, grid=grid) for latent in model.encode_images(pixels)]

    def _seen(self, pixels: Tensor) -> Tensor:
        """As the image encoder sees them: resized where it cannot take them as they are."""
        config: Any = self.understanding.model.config
        height, width = pixels.shape[-2:]
        patch = config.vit_config.patch_size
        if height % patch == width % patch == 0 and max(height, width) <= patch * config.vit_max_num_patch_per_side:
            return pixels
        w, h = ImageTransform(*config.vit_transform).size(width, height)
        return F.interpolate(pixels, (h, w), mode="bicubic", antialias=True).clamp(-1, 1)
