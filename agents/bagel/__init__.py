"""BAGEL: the unified model, its packing, its sampling and its checkpoints. Names are imported on first use."""

from importlib import import_module
from typing import Any

_HOME = {
    "Bagel": "model",
    "BagelConfig": "config",
    "BagelOutput": "model",
    "Contexts": "context",
    "Dropped": "items",
    "ImageTransform": "transforms",
    "Inferencer": "inferencer",
    "NoisyImage": "items",
    "Pack": "sequence",
    "Sampling": "generate",
    "StateImage": "items",
    "Text": "items",
    "TokenIds": "tokenizer",
    "Tokenizer": "tokenizer",
    "VaeImage": "items",
    "VitImage": "items",
    "infer": "inferencer",
    "load": "checkpoint",
    "pack": "sequence",
    "save": "checkpoint",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
