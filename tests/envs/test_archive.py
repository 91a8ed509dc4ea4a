"""Transcripts as files."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from strokes.envs import Transcript, append_transcript, load_transcripts, read_transcripts, save_transcripts
from strokes.envs.archive import encode_png, pixel_hash


@pytest.fixture
def saved(transcript, tmp_path):
    path = tmp_path / "run" / "transcripts.jsonl"
    append_transcript(transcript, path)
    return path


def rewrite(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record) + "\n")


def test_a_transcript_survives_the_file(transcript, saved):
    (loaded,) = load_transcripts(saved)
    assert loaded == transcript and loaded.id
    record = json.loads(saved.read_text())
    assert record["format"] == "strokes/transcript" and record["version"] == 1 and record["ended"] == "stop"
    sketch = record["emissions"][1]
    assert sketch["image"] == f"images/{transcript.id}/1.png" and sketch["sha256"] == pixel_hash(transcript.images[0])
    assert sketch["stage"] == "sketch" and sketch["terms"] == {"sketch": 0.5, "judge": None}
    assert record["emissions"][2]["error"] and record["emissions"][2]["text"] == ""


def test_ids_are_made_from_content_and_never_reused(transcript, saved):
    assert append_transcript(transcript.cut(4), saved) != append_transcript(transcript.cut(4), saved)
    with pytest.raises(ValueError, match="id that is new"):
        append_transcript(transcript, saved)
    with pytest.raises(ValueError, match="id that is new"):
        append_transcript(transcript, saved.with_name("other.jsonl"))
    transcript.id = "../escape"
    with pytest.raises(ValueError, match="id of letters"):
        append_transcript(transcript, saved)
    assert len(load_transcripts(saved)) == 3


def test_images_left_by_an_interrupted_write_are_written_over(transcript, tmp_path):
    transcript.id = "episode-1"
    (tmp_path / "images" / "episode-1").mkdir(parents=True)
    (tmp_path / "images" / "episode-1" / "1.png").write_bytes(b"half")
    append_transcript(transcript, tmp_path / "t.jsonl")
    assert load_transcripts(tmp_path / "t.jsonl") == [transcript]


def test_a_half_written_line_is_reported_and_the_rest_survives(transcript, saved):
    whole = saved.read_bytes()
    saved.write_bytes(whole + whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=r"jsonl:2 is half-written"):
        assert load_transcripts(saved) == [transcript]
    later = transcript.cut(3)
    append_transcript(later, saved)
    with pytest.warns(UserWarning, match=r"jsonl:2 is half-written"):
        assert load_transcripts(saved) == [transcript, later]


def test_a_line_cut_inside_a_character_is_reported_too(transcript, saved):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: whole.index("星".encode()) + 1])
    with pytest.warns(UserWarning, match="half-written"):
        assert load_transcripts(saved) == []


def test_unknown_versions_are_refused_and_unknown_keys_kept(transcript, saved):
    rewrite(saved, lambda r: (r.update(studio="x"), r["emissions"][0].update(mood=[1, 2])))
    (loaded,) = load_transcripts(saved)
    assert loaded.extra == {"studio": "x"} and loaded.emissions[0].extra == {"mood": [1, 2]}
    save_transcripts([loaded], saved)
    assert load_transcripts(saved) == [loaded]
    rewrite(saved, lambda r: r.update(version=2))
    with pytest.raises(ValueError, match="version 1, got 2"):
        load_transcripts(saved)
    rewrite(saved, lambda r: r.update(format="other"))
    with pytest.raises(ValueError, match="format"):
        load_transcripts(saved)


def test_pixels_that_changed_are_named(saved, transcript):
    target = saved.parent / "images" / transcript.id / "1.png"
    changed = transcript.images[0].copy()
    changed[0, 0] ^= 255
    target.write_bytes(encode_png(changed))
    with pytest.raises(ValueError, match=r"jsonl:1, emission 1.*sha256.*1\.png"):
        load_transcripts(saved)
    target.write_bytes(b"\x89PNG nonsense")
    with pytest.raises(ValueError, match="whole PNG"):
        load_transcripts(saved)
    target.unlink()
    with pytest.raises(ValueError, match="no such file"):
        load_transcripts(saved)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "images/../../secret.png", "images/link.png"])
def test_image_paths_stay_in_the_folder(saved, transcript, name):
    secret = saved.parent.parent / "secret.png"
    secret.write_bytes(encode_png(transcript.images[0]))
    (saved.parent / "images" / "link.png").symlink_to(secret)
    rewrite(saved, lambda r: r["emissions"][1].update(image=name))
    with pytest.raises(ValueError, match="stay in"):
        load_transcripts(saved)


def test_pixel_bombs_are_refused_before_they_are_decoded(saved, transcript):
    target = saved.parent / "images" / transcript.id / "1.png"
    data = bytearray(encode_png(transcript.images[0]))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    target.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"48 x 48 pixels, got 60000|decompression bomb"):
        load_transcripts(saved)
    Image.new("RGB", (64, 64)).save(target)
    with pytest.raises(ValueError, match="48 x 48 pixels, got 64 x 64"):
        load_transcripts(saved)
    rewrite(saved, lambda r: r.update(size=60_000))
    with pytest.raises(ValueError, match="size"):
        load_transcripts(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("prompt"), "to have 'prompt'"),
        (lambda r: r.update(prompt=3), "text as `prompt`"),
        (lambda r: r.update(ended="later"), "one of stop, budget"),
        (lambda r: r.update(seed="<b>3</b>"), "an integer as `seed`"),
        (lambda r: r.update(size=True), "an integer as `size`"),
        (lambda r: r.update(size=None), "a `size` of 1 to 4096"),
        (lambda r: r.update(meta=[1]), "a mapping as `meta`"),
        (lambda r: r.update(score="high"), "a number as `score`"),
        (lambda r: r.update(id=["x"]), "a text as `id`"),
        (lambda r: r.update(emissions=7), "a list as `emissions`"),
        (lambda r: r["emissions"][0].update(source={}), "emission 0 with a text as `source`"),
        (lambda r: r["emissions"][0].update(loss=1), "true or false as `loss`"),
        (lambda r: r["emissions"][0].update(terms={"plan": "1"}), "terms with a number as `plan`"),
        (lambda r: r["emissions"][0].update(stage="draw"), "one of plan, sketch"),
        (lambda r: r["emissions"][0].pop("text"), "either text or image"),
        (lambda r: r["emissions"][0].update(stage="sketch"), "content of a SKETCH"),
    ],
)
def test_malformed_records_say_what_is_wrong_and_where(saved, change, message):
    rewrite(saved, change)
    with pytest.raises(ValueError, match=message) as caught:
        load_transcripts(saved)
    assert "transcripts.jsonl:1" in str(caught.value)


def test_values_that_json_cannot_hold_are_refused_before_anything_is_written(transcript, tmp_path):
    for meta in ({"x": object()}, {"x": float("nan")}):
        transcript.meta = meta
        with pytest.raises(ValueError, match="JSON values"):
            append_transcript(transcript, tmp_path / "t.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_lone_surrogates_and_line_separators_survive(tmp_path):
    odd = Transcript(prompt="a\udcff b\u2028c\nd\x85", size=16)
    append_transcript(odd, tmp_path / "t.jsonl")
    assert load_transcripts(tmp_path / "t.jsonl") == [odd]


def test_a_line_nested_without_end_is_skipped_like_a_torn_one(saved, transcript):
    with open(saved, "a") as file:
        file.write("[" * 200_000 + "\n")
    with pytest.warns(UserWarning, match=r"jsonl:2"):
        assert load_transcripts(saved) == [transcript]


def test_drawings_without_an_image_have_ids_of_their_own_too(tmp_path):
    path, words = tmp_path / "t.jsonl", Transcript(prompt="x", size=16)
    first = append_transcript(words.cut(0), path)
    assert append_transcript(words.cut(0), path) != first
    words.id = first
    with pytest.raises(ValueError, match="id that is new"):
        append_transcript(words, path)


def test_saving_anew_replaces_the_file_in_one_move(transcript, saved):
    others = [transcript.cut(k) for k in range(4)]
    save_transcripts(others, saved)
    assert load_transcripts(saved) == others and not saved.with_name("transcripts.jsonl.partial").exists()
    save_transcripts([], saved)
    assert list(read_transcripts(saved)) == []


def test_large_canvases_survive(tmp_path):
    big = Transcript(prompt="x", size=256)
    big.record((0, "<ins>a</ins><des>b</des>"))
    big.record((1, np.arange(256 * 256 * 3, dtype=np.uint8).reshape(256, 256, 3)))
    append_transcript(big, tmp_path / "t.jsonl")
    assert load_transcripts(tmp_path / "t.jsonl") == [big]
