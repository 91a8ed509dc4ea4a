"""The settings of strokes-data: the numbers of the paper, wrong values, files."""

from dataclasses import asdict

import pytest
from data_settings import SMALL, composed
from omegaconf import OmegaConf

from strokes.agents.command import settings_from
from strokes.sft.build import jobs
from strokes.sft.build_settings import Settings
from strokes.sft.sample import Subset


def test_the_numbers_are_the_papers():
    settings = composed()
    totals = {
        (subset, split): sum(job.num for job in jobs(settings) if (job.subset, job.split) == (subset, split))
        for subset in Subset
        for split in ("train", "validation")
    }
    assert [totals[subset, "train"] for subset in Subset] == [32_012, 15_201, 15_000]
    assert [totals[subset, "validation"] for subset in Subset] == [320, 152, 150]
    assert all(0 < job.num <= 500 for job in jobs(settings))
    assert len({(job.subset, job.name) for job in jobs(settings)}) == len(jobs(settings))


def test_the_numbers_of_a_part():
    chunks = [(job.name, job.num) for job in jobs(composed(*SMALL))]
    assert chunks == [("train-00000", 16), ("train-00001", 16), ("train-00002", 6), ("validation-00000", 4)]
    assert [job.split for job in jobs(composed(*SMALL, "validation=0"))] == ["train"] * 3
    assert [job.num for job in jobs(composed("subset=multi_turn", "scale=0.000001"))] == [1, 1]


def test_workers_find_files_from_wherever_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = "alignment.source=genref", "alignment.genref=[a.tar]", "alignment.excluded=b.txt", "sampler.path=c"
    settings = composed(*told, "multi_turn.real.path=d", "multi_turn.real.objects=e.txt")
    there = settings.absolute()
    monkeypatch.chdir("/")
    assert (there.genref, there.excluded) == ((tmp_path / "a.tar",), (tmp_path / "b.txt",))
    assert there.sampler.path == str(tmp_path / "c") and there.multi_turn.real["path"] == str(tmp_path / "d")
    assert there.multi_turn.real["objects"] == str(tmp_path / "e.txt")
    assert there.multi_turn.real["attributes"] is None and there.multi_turn.real["size"] == 1024
    assert settings.of(Subset.ALIGNMENT)["alignment"]["genref"] == ["a.tar"]  # a build goes on in a folder that moved


WRONG = {
    "subset=multi": "all or one of multi_turn, conflict, alignment, got 'multi'",
    "scale=0": "scale above 0",
    "scale=-1": "scale to be a number",
    "size=50": "multiple of 16",
    "chunk_size=0": "chunk_size to be an integer",
    "audit=1": "audit to be true or false",
    "multi_turn.backend=exakt": "one of exact, real",
    "conflict.source=x": "one of self-sampled, symbolic",
    "conflict.temperatures=[hot]": "conflict.temperatures to be a number",
    "alignment.source=genref": "alignment.genref=",
    "alignment.genref=[a.tar]": "alignment.genref=",
    "alignment.genref=[3]": "alignment.genref to be a list of files, got \\[3\\]",
    "alignment.excluded=[3]": "alignment.excluded to be a list of files",
    "sampler.policy=scripted": "sampler.policy",
    "sampler.path=3": "sampler.path to be the folder",
    "sampler.guidance=.inf": "sampler.guidance to be a number of at most",
    "conflict.temperatures=1.0": "numbers such as \\[1.0, 1.3\\], got 1.0",
    "conflict.temperatures=null": "numbers such as .*, got None",
    "conflict.temperatures=[]": "numbers such as .*, got \\[\\]",
    "conflict.temperatures=[.inf]": "conflict.temperatures to be a number of at most",
    "multi_turn.detour_rate=null": "detour_rate to be a number",
    "scale=.inf": "scale to be a number of at most",
    "scale=1e6": "at most 100,000 shards",
    "validation=.nan": "validation to be a number",
    f"seed={2**63}": "seed below 2\\*\\*63",
    "size=8000": "at most 4096, got 1.0 and 8000",
    "multi_turn=null": "multi_turn with the keys",
    "multi_turn.real=null": "multi_turn.real with the keys",
    "sampler=null": "sampler with the keys",
    "sampler=3": "sampler with the keys",
    "conflict.sauce=x": "got conflict.sauce",
    "address=7": "address to be that",
}


@pytest.fixture(scope="module")
def defaults():
    return asdict(composed())


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_settings_are_refused(defaults, wrong):
    changed = OmegaConf.merge(OmegaConf.create(defaults), OmegaConf.from_dotlist([wrong]))
    with pytest.raises(ValueError, match=WRONG[wrong]):
        settings_from(changed, Settings, "data")
