"""GenEval's folders and results files: written, read, resumed."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from strokes.envs.scenes import Object, Scene, render
from strokes.rewards.geneval import Rule
from strokes.rewards.geneval_detectors import MiniWorldDetector
from strokes.rewards.geneval_folder import GenevalFolder, judge_folder
from strokes.rewards.geneval_results import append_results, read_results, resume_results
from strokes.rewards.geneval_summary import official_summary, to_summary_results
from strokes.rewards.summary import summarise

ENTRIES = [
    {"tag": "colors", "include": [{"class": "star", "count": 1, "color": color}], "prompt": f"a {color} star"}
    for color in ("red", "blue", "green")
]


WORLD = MiniWorldDetector()


class Counting:
    """The mini-world's detector, counting what it looks at; killed when that is more than ``left``."""

    classes, rule = WORLD.classes, WORLD.rule

    def __init__(self, left=99):
        self.left, self.looked = left, 0

    def look(self, images, metadata, rule=None):
        self.looked += len(images)
        if self.looked > self.left:
            raise KeyboardInterrupt
        return WORLD.look(images, metadata, rule)


def star(color):
    return render(Scene((Object("star", color, 32, 32, 9),), 64))


@pytest.fixture
def folder(tmp_path):
    """Two drawings each of three prompts: the second of "a green star" is blue."""
    made = GenevalFolder(tmp_path / "images")
    made.prepare(ENTRIES)
    for index, number in made.missing(3, 2):
        color = "blue" if (index, number) == (2, 1) else ENTRIES[index]["prompt"].split()[1]
        made.add(index, number, star(color))
    return made


def test_the_layout_is_the_benchmark_s(folder):
    names = sorted(path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file())
    assert names == sorted(
        f"{k:05}/{name}" for k in range(3) for name in ("metadata.jsonl", "samples/0000.png", "samples/0001.png")
    )
    assert json.loads((folder.path / "00001/metadata.jsonl").read_text()) == ENTRIES[1]
    assert np.array_equal(np.asarray(Image.open(folder.path / "00001/samples/0001.png")), star("blue"))


def test_nothing_is_drawn_twice(folder):
    assert folder.missing(3, 2) == []
    (folder.path / "00001/samples/0000.png").unlink()
    folder.prepare(ENTRIES)
    assert folder.missing(3, 3) == [(0, 2), (1, 0), (1, 2), (2, 2)]


def test_a_drawing_cut_off_while_it_was_written_is_missing_and_never_read(folder, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        folder.add(0, 2, star("red"))
    assert folder.missing(1, 3) == [(0, 2)]
    assert len(list(folder.samples())) == 6


def test_a_folder_of_other_prompts_is_refused(folder):
    with pytest.raises(ValueError, match="take another folder"):
        folder.prepare(ENTRIES[::-1])


def test_a_foreign_folder_is_read_as_the_benchmark_reads_it(tmp_path):
    for name, samples in {"7": ("3.png", "x1.png", "12.png.bak"), "10": ("00001.png",), "notes": ("1.png",)}.items():
        (tmp_path / name / "samples").mkdir(parents=True)
        (tmp_path / name / "metadata.jsonl").write_text(json.dumps(ENTRIES[0], indent=2))
        for sample in samples:
            Image.fromarray(star("red")).save(tmp_path / name / "samples" / sample, "PNG")
    (tmp_path / "10" / "grid.png").write_bytes(b"")
    assert [sample.filename for sample in GenevalFolder(tmp_path).samples()] == [
        "7/samples/3.png", "7/samples/12.png.bak", "10/samples/00001.png",
    ]  # fmt: skip


def test_images_are_turned_upright_and_made_rgb(tmp_path):
    made = GenevalFolder(tmp_path)
    made.prepare(ENTRIES[:1])
    image = Image.new("RGBA", (20, 30), "red")
    exif = image.getexif()
    exif[274] = 6  # turned by a quarter
    image.save(tmp_path / "00000/samples/0000.png", exif=exif)
    (sample,) = made.samples()
    assert sample.image().shape == (20, 30, 3)


def test_what_cannot_be_read_is_named(folder, tmp_path):
    cut = folder.path / "00001/samples/0000.png"
    cut.write_bytes(cut.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"00001/samples/0000\.png"):
        judge_folder(folder.path, WORLD, tmp_path / "results.jsonl")
    (folder.path / "00001/metadata.jsonl").unlink()
    with pytest.raises(ValueError, match=r"metadata in .*00001/metadata\.jsonl"):
        list(folder.samples())
    with pytest.raises(ValueError, match="folders such as"):
        list(GenevalFolder(tmp_path / "nowhere").samples())


def test_an_image_as_large_as_a_house_is_named(folder):
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"\0"))
    framed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    (folder.path / "00000/samples/0000.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))
    with pytest.raises(ValueError, match=r"00000/samples/0000\.png"):
        next(folder.samples()).image()


def test_metadata_that_is_not_in_utf_8_is_named(folder):
    path = folder.path / "00000/metadata.jsonl"
    path.write_bytes(path.read_bytes().replace(b"a red star", b"a r\xe9d star"))
    with pytest.raises(ValueError, match=r"00000/metadata\.jsonl"):
        next(folder.samples())
    with pytest.raises(ValueError, match=r"00000/metadata\.jsonl' to hold"):
        folder.prepare(ENTRIES)


def test_a_folder_is_judged_in_batches_and_reported(folder, tmp_path):
    steps = []
    results = judge_folder(folder.path, WORLD, tmp_path / "r.jsonl", batch=4, report=steps.append)
    assert steps == [0, 4, 2]
    assert [result.correct for result in results] == [True] * 5 + [False]
    assert results[-1].filename == "00002/samples/0001.png"
    assert read_results(tmp_path / "r.jsonl") == results
    (row, whole) = summarise(to_summary_results(results)).rows
    assert (row.prompts, row.drawings, row.official.mean, row.strict.mean) == (3, 6, 5 / 6, 5 / 6)
    assert official_summary(results).prompt_accuracy == 1 and whole.official.mean == official_summary(results).overall


def test_a_judged_folder_is_not_looked_at_again(folder, tmp_path):
    first = judge_folder(folder.path, WORLD, tmp_path / "r.jsonl")
    again = Counting()
    assert judge_folder(folder.path, again, tmp_path / "r.jsonl") == first
    assert again.looked == 0


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_results_file_cut_in_the_middle_is_gone_on_with(folder, tmp_path, cut):
    whole = judge_folder(folder.path, WORLD, tmp_path / "whole.jsonl")
    out = tmp_path / "cut.jsonl"
    with pytest.raises(KeyboardInterrupt):
        judge_folder(folder.path, Counting(left=4), out, batch=2)
    out.write_bytes(out.read_bytes()[:-cut])
    resumed = Counting()
    assert judge_folder(folder.path, resumed, out, batch=2) == whole
    assert resumed.looked == (2 if cut == 1 else 3)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_results_without_end_of_line_are_whole(folder, tmp_path):
    results = judge_folder(folder.path, WORLD, tmp_path / "r.jsonl")
    (tmp_path / "r.jsonl").write_text((tmp_path / "r.jsonl").read_text().rstrip("\n"))
    assert resume_results(tmp_path / "r.jsonl") == results
    append_results(tmp_path / "r.jsonl", results[:1])
    assert len(read_results(tmp_path / "r.jsonl")) == len(results) + 1


@pytest.mark.parametrize("line", ["{", '{"filename": "a"}', "[]", "null"])
def test_a_wrong_line_before_the_last_is_named(folder, tmp_path, line):
    path = tmp_path / "r.jsonl"
    judge_folder(folder.path, WORLD, path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match=r"r\.jsonl:2"):
        read_results(path)


def test_the_rule_given_is_the_rule_used(folder, tmp_path):
    deaf = judge_folder(folder.path, WORLD, tmp_path / "r.jsonl", rule=Rule(threshold=1.0))
    assert {result.reason for result in deaf} == {"expected star>=1, found 0"}


def test_drawings_of_a_prompt_are_numbered_by_filename(folder, tmp_path):
    results = judge_folder(folder.path, WORLD, tmp_path / "r.jsonl")
    shuffled = [results[k] for k in (5, 0, 3, 1, 4, 2)]
    assert {(r.prompt_id, r.seed, r.official) for r in to_summary_results(shuffled)} == {
        (r.prompt_id, r.seed, r.official) for r in to_summary_results(results)
    }


def test_no_results_have_no_summary():
    with pytest.raises(ValueError, match="at least one result"):
        official_summary([])
