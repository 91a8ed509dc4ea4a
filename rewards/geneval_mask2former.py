"""Mask2FormerClip: GenEval's detector for photographs, Mask2Former for objects and CLIP for their colours.

The benchmark runs mmdet 2's Mask2Former Swin-S (instances of COCO) and OpenAI's CLIP ViT-L/14. Here the same
architectures come from transformers. Mask2Former's weights are Facebook's and not mmdet's, so results are near the
published ones and not comparable to the last digit: publish them as those of this detector.

The colour of an object is the nearest of ten to its crop, however near (A. Radford et al., CLIP, 2021, arXiv
2103.00020): cosine with the normalised mean of three normalised sentences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..envs.scenes.clauses import COLOR_NAMES
from .geneval import Found, Objects, Rule, colors_needed, keep
from .geneval_crops import clip_pixels, crops
from .geneval_prompts import CLASSES
from .geneval_segmenter import instances, prepare, segmenter_class

if TYPE_CHECKING:
    from torch import Tensor

SEGMENTER = "facebook/mask2former-swin-small-coco-instance"
CLIP = "openai/clip-vit-large-patch14"
_ALIASES = {
    "mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard", "motorbike": "motorcycle",
    "aeroplane": "airplane", "sofa": "couch", "pottedplant": "potted plant", "diningtable": "dining table",
    "tvmonitor": "tv",
}  # fmt: skip
"""Names under which COCO's classes go elsewhere."""
_BATCH = 16
"""Crops per call of CLIP, as in the benchmark."""


class Mask2FormerClip:
    """Mask2Former for objects, CLIP for their colours. ``load`` makes one from weights.

    Args:
        segmenter: As ``segmenter_class`` makes them, of COCO's 80 classes.
        clip: A ``CLIPModel``.
        tokenizer: CLIP's.
        device: Where they are and stay.
        rule: What counts as seen.

    Raises:
        ValueError: The segmenter has other classes, or COCO's in another order.
    """

    def __init__(self, segmenter: Any, clip: Any, tokenizer: Any, *, device: str, rule: Rule | None = None) -> None:
        names = segmenter.config.id2label
        found = [_ALIASES.get(str(names[k]), str(names[k])) for k in sorted(names)]
        if found != list(CLASSES):
            raise ValueError(f"Expected a segmenter of COCO's 80 classes in COCO's order, got {', '.join(found)}.")
        self.classes, self.rule = CLASSES, rule or Rule()
        self._device, self._tokenizer = device, tokenizer
        self._segmenter, self._clip = segmenter.to(device).eval(), clip.to(device).eval()
        self._classifiers: dict[str, Tensor] = {}

    @classmethod
    def load(
        cls, segmenter: str = SEGMENTER, clip: str = CLIP, *, device: str | None = None, rule: Rule | None = None
    ) -> "Mask2FormerClip":
        """From checkpoints in a folder or on the Hugging Face hub; on a GPU if there is one."""
        try:
            import torch
            from transformers import AutoTokenizer, CLIPModel
        except ImportError as error:
            raise ImportError("Mask2FormerClip needs torch and transformers: pip install 'strokes[train]'.") from error
        return cls(
            segmenter_class().from_pretrained(segmenter),
            CLIPModel.from_pretrained(clip),
            AutoTokenizer.from_pretrained(clip),
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            rule=rule,
        )

    def look(
        self, images: Sequence[np.ndarray], metadata: Sequence[Mapping[str, Any]], rule: Rule | None = None
    ) -> list[Objects]:
        """See ``Detector.look``."""
        rule = rule or self.rule
        seen = []
        for image, meta in zip(images, metadata, strict=True):
            kept = keep(self._instances(image, rule), meta, rule, CLASSES)
            needed = {name: kept[name][:number] for name, number in colors_needed(kept, meta).items()}
            colors = iter(self._colors(image, needed, rule))
            for name, found in needed.items():
                named = [replace(item, color=next(colors)) for item in found]
                kept[name] = named + kept[name][len(named) :]
            seen.append({name: [replace(item, mask=None) for item in found] for name, found in kept.items()})
        return list[Objects](seen)

    def _instances(self, image: np.ndarray, rule: Rule) -> dict[str, list[Found]]:
        """What the segmenter sees on an image with scores that could count."""
        import torch

        prepared = prepare(image)
        with torch.inference_mode():
            classes, masks = self._segmenter(prepared.pixels.to(self._device))
            return instances(
                classes[0],
                masks[0],
                padded=tuple(prepared.pixels.shape[-2:]),
                inner=prepared.inner,
                size=image.shape[:2],
                least=min(rule.threshold, rule.counting_threshold),
            )

    def _colors(self, image: np.ndarray, needed: Mapping[str, Sequence[Found]], rule: Rule) -> list[str]:
        """The colours of objects of an image, class by class: the nearest of ten, however near."""
        import torch

        shown = [(name, crop) for name, found in needed.items() for crop in crops(image, found, rule)]
        colors = []
        for k in range(0, len(shown), _BATCH):
            group = shown[k : k + _BATCH]
            pixels = np.stack([clip_pixels(crop, self._clip.config.vision_config.image_size) for _, crop in group])
            with torch.inference_mode(), torch.autocast("cuda", enabled=self._is_cuda):
                pooled = self._clip.vision_model(pixel_values=torch.from_numpy(pixels).to(self._device)).pooler_output
                features = _unit(self._clip.visual_projection(pooled))
                for (name, _), feature in zip(group, features, strict=True):
                    colors.append(COLOR_NAMES[int((100.0 * feature @ self._classifier(name)).argmax())])
        return colors

    def _classifier(self, name: str) -> "Tensor":
        """Directions of the ten colours of a class: float (width, 10). Three sentences each, as in the benchmark."""
        import torch

        if name not in self._classifiers:
            templates = (f"a photo of a {{}} {name}", f"a photo of a {{}}-colored {name}", "a photo of a {} object")
            sentences = [template.format(color) for color in COLOR_NAMES for template in templates]
            tokens = self._tokenizer(sentences, padding=True, return_tensors="pt")
            with torch.inference_mode(), torch.autocast("cuda", enabled=self._is_cuda):
                pooled = self._clip.text_model(**{key: value.to(self._device) for key, value in tokens.items()})
                features = _unit(self._clip.text_projection(pooled.pooler_output))
                means = features.unflatten(0, (len(COLOR_NAMES), -1)).mean(1)
                self._classifiers[name] = _unit(means).T
        return self._classifiers[name]

    @property
    def _is_cuda(self) -> bool:
        """The benchmark runs CLIP in half precision, on CUDA."""
        return str(self._device).startswith("cuda")


def _unit(features: "Tensor") -> "Tensor":
    return features / features.norm(dim=-1, keepdim=True)
