"""Checkpoints: the official directory is the only format, for reading and for writing.

``ema.safetensors`` holds the model, ``ae.safetensors`` the autoencoder, ``llm_config.json`` and
``vit_config.json`` their configuration. ``config.json`` is optional; without it, what the official code
hard-codes holds. Files are memory-mapped: a model on the CPU in the stored dtype is the file itself.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .config import BagelConfig
from .model import Bagel

MODEL, AUTOENCODER = "ema.safetensors", "ae.safetensors"
_HEAD = "language_model.lm_head.weight"
_TABLE = "latent_pos_embed.pos_embed"
_VAE = "vae."


def read_config(path: str | Path) -> BagelConfig:
    """The configuration of a checkpoint directory.

    ``llm_config.json`` and ``vit_config.json`` prevail over their copies in ``config.json``. The size of
    the latent position table is read off the table itself, for released configurations misstate it.

    Raises:
        ValueError: A file is missing, is not JSON, or configures no model.
    """
    path = Path(path)
    values = _read_json(path / "config.json") if (path / "config.json").exists() else {}
    for part in ("llm_config", "vit_config"):
        if part not in values or (path / f"{part}.json").exists():
            values[part] = _read_json(path / f"{part}.json")
    with _open(path / MODEL) as file:
        keys = set(file.keys())
        if _TABLE in keys and isqrt(rows := file.get_slice(_TABLE).get_shape()[0]) ** 2 == rows:
            values["max_latent_size"] = isqrt(rows)
    try:
        config = BagelConfig(**values)
    except (TypeError, AttributeError, ZeroDivisionError) as error:  # values of the wrong type, or 0
        raise ValueError(f"Expected the JSON files in {path} to configure a BAGEL, got: {error}.") from error
    if _HEAD in keys and config.llm_config.tie_word_embeddings:  # some exporters write a head beside the flag
        config.llm_config = replace(config.llm_config, tie_word_embeddings=False)
        config.tie_word_embeddings = False
    return config


def load(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    vae_dtype: torch.dtype | None = torch.float32,
) -> Bagel:
    """Load a model, in evaluation mode.

    Args:
        path: Checkpoint directory.
        dtype: Dtype of everything but the autoencoder; ``None``: as stored.
        device: Where the tensors go, one by one; nothing is built elsewhere first.
        vae_dtype: Dtype of the autoencoder. The official code always runs it in float32.

    Raises:
        ValueError: A missing or damaged file, or a tensor that is missing, unexpected or of another shape.
    """
    path = Path(path)
    config = read_config(path)
    with torch.device("meta"):
        model = Bagel(config)
    expected = {k: v for k, v in model.state_dict().items() if not k.startswith(_VAE)}
    if config.llm_config.tie_word_embeddings:
        del expected[_HEAD]
    state = _read(path / MODEL, expected, dtype, device)
    if config.llm_config.tie_word_embeddings:
        state[_HEAD] = state["language_model.model.embed_tokens.weight"]
    vae = _read(path / AUTOENCODER, model.vae.official_state(), vae_dtype, device)
    state |= {f"{_VAE}{k}": v for k, v in model.vae.from_official(vae).items()}
    model.load_state_dict(state, assign=True)
    model.language_model.tie(config.llm_config)
    return model.eval()


def save(
    path: str | Path, model: Bagel, *, dtype: torch.dtype | None = None, state: Mapping[str, Tensor] | None = None
) -> None:
    """Write a model; each file replaces its predecessor only when complete.

    Args:
        path: Directory, created if need be. The tokenizer is written by ``Tokenizer.save``.
        model: What to write.
        dtype: Dtype on disk; ``None``: as in the model.
        state: Weights to write instead of the model's own, under the names of its ``state_dict``.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    weights = dict(model.state_dict() if state is None else state)
    if model.config.llm_config.tie_word_embeddings:
        weights.pop(_HEAD, None)
    vae = {k.removeprefix(_VAE): weights.pop(k) for k in list(weights) if k.startswith(_VAE)}
    _write(path / MODEL, weights, dtype)
    _write(path / AUTOENCODER, model.vae.to_official(vae), dtype)
    config = model.config.to_dict()
    _write_json(path / "llm_config.json", {"model_type": "qwen2"} | asdict(model.config.llm_config))
    _write_json(path / "vit_config.json", {"model_type": "siglip_vision_model"} | asdict(model.config.vit_config))
    _write_json(path / "config.json", config | {"architectures": [type(model).__name__]})


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A safetensors file; ``ValueError`` if it cannot be read."""
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise ValueError(f"Expected {path.name} in {path.parent}, got no such file; complete the checkpoint.") from None
    except (SafetensorError, OSError) as error:
        raise ValueError(f"Expected a complete safetensors file, got {path} ({error}); fetch it again.") from None


def _read(
    path: Path, expected: Mapping[str, Tensor], dtype: torch.dtype | None, device: torch.device | str
) -> dict[str, Tensor]:
    """The tensors of a file, checked against ``expected`` before any is read."""
    with _open(path) as file:
        found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
        _check(path, {key: tuple(value.shape) for key, value in expected.items()}, found)
        return {key: file.get_tensor(key).to(device=device, dtype=dtype) for key in found}


def _check(path: Path, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    problems = [
        f"{key}: expected {expected.get(key, 'no such tensor')}, got {found.get(key, 'no such tensor')}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ValueError(
            f"Expected {path} to match its configuration, got {'; '.join(problems[:3])}{more}. Check that "
            "the JSON files beside it belong to these weights."
        )


def _write(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> None:
    partial = path.with_name(f"{path.name}.partial")
    ready = {k: v.detach().to(device="cpu", dtype=dtype or v.dtype).contiguous() for k, v in tensors.items()}
    save_file(ready, str(partial), metadata={"format": "pt"})
    partial.chmod(0o644)  # safetensors writes files only their owner can read
    os.replace(partial, path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"Expected {path.name} in {path.parent}, got no such file; complete the checkpoint.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected JSON, got {path} ({error}); fetch it again.") from None
    if not isinstance(values, dict):
        raise ValueError(f"Expected a JSON object in {path}, got {values!r:.80}.")
    return values


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, path)
