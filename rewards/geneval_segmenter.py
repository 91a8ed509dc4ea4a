"""The segmenter of GenEval: Mask2Former from transformers, with what mmdet does before and after it.

transformers' own post-processing is not used: it compares masks on a grid of 384 x 384 and leaves the padding in. What
mmdet does is written out below: scores over queries and classes; masks enlarged to the padded input, cut, enlarged to
the image and compared with 0; the score times the mean of the mask's sigmoid; tight boxes, exclusive at the far side.

B. Cheng et al., Masked-attention Mask Transformer (2022, arXiv 2112.01527);
configs/mask2former/mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco.py of github.com/open-mmlab/mmdetection, 2.x.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .geneval import Found
from .geneval_prompts import CLASSES

if TYPE_CHECKING:
    from torch import Tensor

_LONG, _SHORT, _DIVISOR = 1333, 800, 32
"""Most of the longer and the shorter side; padded to a multiple. mmdet's test pipeline, as are the next two."""
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_PADDING = 128.0
_MOST = 100
"""Pairs of query and class that are looked at, mmdet's ``max_per_image``."""


class Prepared(NamedTuple):
    """An image as the segmenter takes it."""

    pixels: "Tensor"
    """float32 (1, 3, padded height, padded width)."""
    inner: tuple[int, int]
    """Height and width before padding, which is at the right and at the bottom."""


@functools.cache
def segmenter_class() -> Any:
    """The class of the segmenter: pixels to the logits of classes and masks.

    Checkpoints are those of ``Mask2FormerForUniversalSegmentation``, of which it leaves out the training loss, all that
    needs scipy.
    """
    from torch import nn
    from transformers import Mask2FormerModel, Mask2FormerPreTrainedModel

    class Segmenter(Mask2FormerPreTrainedModel):
        _keys_to_ignore_on_load_unexpected = (r"criterion\.",)

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.model = Mask2FormerModel(config)
            self.class_predictor = nn.Linear(config.hidden_dim, config.num_labels + 1)
            self.post_init()

        def forward(self, pixel_values: "Tensor") -> "tuple[Tensor, Tensor]":
            out = self.model(pixel_values, output_hidden_states=True)
            queries = out.transformer_decoder_intermediate_states[-1].transpose(0, 1)
            return self.class_predictor(queries), out.masks_queries_logits[-1]

    return Segmenter


def prepare(image: np.ndarray) -> Prepared:
    """An image in the size, padding and normalisation of mmdet's test pipeline.

    Args:
        image: uint8 (height, width, 3).
    """
    import torch
    from torch.nn import functional

    height, width = image.shape[:2]
    scale = min(_LONG / max(height, width), _SHORT / min(height, width))
    inner = int(height * scale + 0.5), int(width * scale + 0.5)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    pixels = functional.interpolate(pixels, size=inner, mode="bilinear", align_corners=False).round()
    below, right = (-side % _DIVISOR for side in inner)
    pixels = functional.pad(pixels, (0, right, 0, below), value=_PADDING)
    mean, std = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return Prepared((pixels - mean) / std, inner)


def instances(
    classes: "Tensor",
    masks: "Tensor",
    *,
    padded: Sequence[int],
    inner: Sequence[int],
    size: Sequence[int],
    least: float,
) -> dict[str, list[Found]]:
    """The instances that mmdet makes of an output, by class, without those that score ``least`` or less.

    Args:
        classes: Logits (queries, 81), the last one "nothing".
        masks: Logits (queries, height, width) on a grid over the padded input.
        padded: Height and width of the input.
        inner: The part of it that is image.
        size: Of the image itself.
        least: Bounds the memory: a mask is enlarged only where its class probability, which its score never exceeds,
            is above.
    """
    from torch.nn import functional

    probabilities = classes.softmax(-1)[:, :-1]
    enlarge = functools.partial(functional.interpolate, mode="bilinear", align_corners=False)
    values, order = probabilities.flatten().topk(min(_MOST, probabilities.numel()))
    found: dict[str, list[Found]] = {}
    for value, index in zip(values[values > least], order[values > least].tolist(), strict=True):
        query, label = divmod(index, probabilities.shape[1])
        mask = enlarge(masks[query][None, None], size=tuple(padded))[..., : inner[0], : inner[1]]
        mask = enlarge(mask, size=tuple(size))[0, 0]
        inside = mask > 0
        score = float(value * (mask.sigmoid() * inside).sum() / (inside.sum() + 1e-6))
        if score > least:
            shape = inside.cpu().numpy()
            found.setdefault(CLASSES[label], []).append(Found(box=_box(shape), score=score, mask=shape))
    return found


def _box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """The tight box of a mask that is not empty, exclusive at the far side."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)
