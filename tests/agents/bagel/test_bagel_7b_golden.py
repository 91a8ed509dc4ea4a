"""The released BAGEL-7B-MoT: keys and shapes, on the meta device."""

import torch

from strokes.agents.bagel import Bagel, BagelConfig


def test_keys_and_shapes_are_those_of_the_released_checkpoint(golden_7b):
    with torch.device("meta"):
        model = Bagel(BagelConfig.bagel_7b())
    own = {k: list(v.shape) for k, v in model.state_dict().items() if not k.startswith("vae.")}
    assert own == golden_7b["ema.safetensors"]
    assert {k: list(v.shape) for k, v in model.vae.official_state().items()} == golden_7b["ae.safetensors"]
