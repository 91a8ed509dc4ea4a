"""What the tests of data and supervised training share: models, samples in a shard, a judge that tells the truth."""

import sys
from pathlib import Path

import pytest
import torch

from strokes.agents.bagel import Bagel, BagelConfig, Tokenizer
from strokes.agents.interleaved import Interleaved
from strokes.agents.load import NANO
from strokes.rewards.judge import JudgeClient
from strokes.sft.autoencoder import make_autoencoder
from strokes.sft.self_sampling import CARELESS
from strokes.sft.store import write_shard
from strokes.sft.tokenizer import build_tokenizer

# Helpers of this room, the truthful judge and the tiny pipelines.
sys.path.extend(str(Path(__file__).parents[1] / room) for room in ("sft", "rewards", "agents"))

from small_runs import write_data
from stored import sample
from truthful import Truthful


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


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Of two subsets, to be learnt from."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def sampler():
    """The shipped model as data are sampled from it: careless, so that there is something to correct."""
    return Interleaved.load(NANO, CARELESS)


@pytest.fixture(scope="module")
def samples():
    """Of two subsets, both labels and both splits."""
    return [sample(k) for k in range(12)]


@pytest.fixture
def shard(samples, tmp_path):
    """A file of them."""
    path = tmp_path / "train-00000.parquet"
    write_shard(path, samples)
    return path


@pytest.fixture(scope="module")
def server():
    with Truthful() as truthful:
        yield truthful


@pytest.fixture(scope="module")
def client(server):
    """A judge that knows the mini-world."""
    with JudgeClient(server.settings()) as judge:
        yield judge
