"""Interleaved inputs to a text or an image, in the order of BAGEL's own inferencer.

Three contexts are built from the inputs: everything; everything before the last text; and the texts without the
images. With thinking, a system prompt comes first, and a text is written before the image, decoded and encoded
anew. Context images are sampled from the autoencoder's posterior, and the noise of everything is
drawn from one source in the official order, so that a seed gives the official picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .context import Contexts
from .generate import Decoded, decode_text
from .items import Text, VaeImage, VitImage
from .model import Bagel
from .sample import Branches, Sampled, Sampling, sample_images
from .tokenizer import Tokenizer
from .transforms import ImageTransform, to_pixels, to_rgb

THINK_TO_DRAW = (
    "You should first think about the planning process in the mind and then generate the image. \n"
    "The planning process is enclosed within <think> </think> tags, i.e. "
    "<think> planning process here </think> image here"
)
"""Official system prompt of thinking before an image."""
THINK_TO_ANSWER = (
    "You should first think about the reasoning process in the mind and then provide the user with the answer. \n"
    "The reasoning process is enclosed within <think> </think> tags, i.e. "
    "<think> reasoning process here </think> answer here"
)
"""Official system prompt of thinking before an answer."""

Draw = Callable[[tuple[int, ...]], Tensor]
"""From a shape to standard normal noise, float32."""

Transforms = tuple[ImageTransform, ImageTransform]
"""For the autoencoder and for the image encoder."""


def from_generator(generator: torch.Generator) -> Draw:
    """Noise drawn on the CPU, as the official code does after ``torch.manual_seed``."""
    return lambda shape: torch.randn(shape, generator=generator)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What came out, and what it came from."""

    text: str | None = None
    """The answer, or the thought before the image."""
    image: np.ndarray | None = None
    """The image drawn, uint8 (H, W, 3)."""
    decoded: Decoded | None = None
    """The text as it was sampled."""
    sampled: Sampled | None = None
    """The image as it was sampled, with its flow path."""


class Inferencer:
    """BAGEL on one interleaved input at a time."""

    def __init__(self, model: Bagel, tokenizer: Tokenizer, transforms: Transforms | None = None) -> None:
        """Begin an input.

        Args:
            model: The model.
            tokenizer: Its tokenizer.
            transforms: Of images, for the autoencoder and for the encoder; by default the configuration's.
        """
        self.model = model
        self.tokenizer = tokenizer
        config = model.config
        default = ImageTransform(*config.vae_transform), ImageTransform(*config.vit_transform)
        self.vae_transform, self.vit_transform = transforms or default
        self.contexts = Contexts(model, tokenizer.ids)
        self.full, self.texts = self.contexts.open(2)
        self.size: tuple[int, int] | None = None
        """(H, W) of the last image given."""

    def add_text(self, text: str, *, is_thought: bool = False) -> None:
        """Append a text; a thought enters neither of the contexts that guidance leads away from."""
        item, before = [Text(ids=self.tokenizer.encode(text))], self.contexts.mark(self.full)
        rows = [self.full] if is_thought else [self.full, self.texts]
        self.contexts.extend(rows, [item] * len(rows))
        if is_thought:
            after = self.contexts.mark(self.full)
            after = after._replace(base_length=before.base_length, base_rope=before.base_rope)
            self.contexts.cut(self.full, after)

    def add_image(self, image: Image.Image, draw: Draw, *, is_seen_only: bool = False) -> None:
        """Append an image: its latents, then what the encoder sees of it; the latter alone for understanding."""
        # Both transforms start from the resized image, as in the official code.
        resized = self.vae_transform.resize(to_rgb(image))
        items: list[Text | VaeImage | VitImage] = []
        if not is_seen_only:
            self.size = (resized.height, resized.width)
            pixels, config = to_pixels(np.asarray(resized))[None], self.model.config
            side = config.vae_config.downsample
            noise = draw((1, config.vae_config.z_channels, self.size[0] // side, self.size[1] // side))
            device = self.contexts.device
            latent = self.model.encode_images(pixels.to(device), noise=noise.to(device))[0].cpu()
            items.append(VaeImage(latent=latent, grid=self._grid(self.size)))
        items.append(VitImage(pixels=self.vit_transform(resized)))
        self.contexts.extend([self.full], [items])

    def write(self, limit: int, *, temperature: float = 0.0, draw: Draw | None = None) -> tuple[str, Decoded]:
        """Write a text after the inputs, which stay as they are.

        Args:
            limit: Most tokens, the opening marker included (official).
            temperature: 0 is greedy (official default).
            draw: Source of randomness; needed unless greedy.
        """
        before = self.contexts.mark(self.full)
        uniforms = np.zeros((1, limit - 1))
        if temperature:
            if draw is None:
                raise ValueError("Expected a source of noise for a temperature above 0, got draw=None.")
            uniforms = torch.special.ndtr(draw((1, limit - 1)).double()).numpy()
        (decoded,) = decode_text(self.contexts, [self.full], uniforms, temperature=temperature)
        self.contexts.cut(self.full, before)
        # Official decoding stops at literal markers that were generated as ordinary tokens.
        text = self.tokenizer.decode(decoded.ids).split("<|im_end|>")[0].split("<|im_start|>")[0]
        return text, decoded

    def draw(self, size: tuple[int, int], sampling: Sampling, noise: Tensor) -> tuple[np.ndarray, Sampled]:
        """Draw an image of ``size`` = (H, W) from noise (tokens, p·p·z) after the inputs."""
        contexts, full = self.contexts, self.full
        branches = Branches([contexts.view(full)], [contexts.base(full)], [contexts.view(self.texts)])
        sampled = sample_images(contexts, branches, [noise], [self._grid(size)], sampling, is_recorded=True)
        pixels = self.model.decode_latents(sampled.latents[0][None], size)
        return self.model.to_uint8(pixels)[0].cpu().numpy(), sampled

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        stride = self.model.config.latent_stride
        return size[0] // stride, size[1] // stride


@torch.no_grad()
def infer(
    model: Bagel,
    tokenizer: Tokenizer,
    inputs: Sequence[str | Image.Image],
    draw: Draw,
    *,
    wants_text: bool = False,
    thinks: bool = False,
    max_tokens: int = 1000,
    temperature: float = 0.0,
    sampling: Sampling | None = None,
    size: tuple[int, int] = (1024, 1024),
    transforms: Transforms | None = None,
) -> Inference:
    """Answer interleaved texts and images with a text or an image, as BAGEL's ``interleave_inference`` does.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        inputs: Texts and images in order; for editing: image, then instruction.
        draw: Source of all noise, see ``from_generator``.
        wants_text: Answer with a text; images are then only looked at, not encoded for drawing.
        thinks: Whether a text is written before the image, under the official system prompt.
        max_tokens: Most tokens of a text, opening marker included (official 1000).
        temperature: Of the text; 0 is greedy (official).
        sampling: Of the image; defaults to the recommendation for text-to-image.
        size: (H, W) of the image where no image was given; else it has the (resized) size of the last one.
        transforms: See ``Inferencer``.
    """
    run = Inferencer(model, tokenizer, transforms)
    if thinks:
        run.add_text(THINK_TO_ANSWER if wants_text else THINK_TO_DRAW)
    for given in inputs:
        if isinstance(given, str):
            run.add_text(given)
        else:
            run.add_image(given, draw, is_seen_only=wants_text)
    text, decoded = run.write(max_tokens, temperature=temperature, draw=draw) if thinks or wants_text else (None, None)
    if wants_text:
        return Inference(text=text, decoded=decoded)
    if text is not None:
        run.add_text(text, is_thought=True)
    size = run.size or size
    tokens = (size[0] // model.config.latent_stride) * (size[1] // model.config.latent_stride)
    noise = draw((tokens, model.config.latent_dim))
    image, sampled = run.draw(size, sampling or Sampling(), noise)
    return Inference(text=text, image=image, decoded=decoded, sampled=sampled)
