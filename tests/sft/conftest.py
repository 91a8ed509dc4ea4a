"""What the tests of supervised training share: the mini-world's tokenizer, small models, a random autoencoder."""

import sys
from pathlib import Path

import pytest
import torch

from strokes.agents.bagel import Bagel, BagelConfig, Tokenizer
from strokes.sft.autoencoder import make_autoencoder
from strokes.sft.tokenizer import build_tokenizer

sys.path.insert(0, str(Path(__file__).parent))  # for `trajectories`


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder):
    return Tokenizer.load(tokenizer_folder)


@pytest.fixture(scope="session")
def nano(tokenizer):
    """A random model, for its geometry and its autoencoder."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Bagel(BagelConfig.nano(vocab_size=len(tokenizer))).eval()


@pytest.fixture(scope="session")
def autoencoder_file(tmp_path_factory):
    """An autoencoder as ``strokes.sft.autoencoder`` leaves it, but never trained."""
    path = tmp_path_factory.mktemp("autoencoder") / "autoencoder.pt"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = make_autoencoder(16, 48)
    torch.save({"model": model.state_dict(), "scale_factor": 2.0, "shift_factor": 0.5}, path)
    return path
