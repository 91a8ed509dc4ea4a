"""GenEval's prompts, and prompts of one's own."""

import hashlib
import json

import pytest

from strokes.rewards.geneval_prompts import CLASSES, geneval_prompts, read_metadata, to_jsonl


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_published_files_come_out_byte_for_byte():
    entries = geneval_prompts()
    metadata, prompts = to_jsonl(entries), "".join(entry["prompt"] + "\n" for entry in entries)
    assert (len(entries), len(metadata)) == (553, 85_209)
    assert digest(metadata) == "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13"
    assert digest(prompts) == "55b6e3650e980c13daf30569eb666e000faf19bfc2b7b4cbe999fcdb7aa9d680"


@pytest.mark.parametrize(("seed", "number"), [(42, 559), (0, 548), (1, 554), (123, 560)])
def test_other_seeds_give_as_many_prompts_as_the_benchmark_s_script(seed, number):
    entries = geneval_prompts(seed)
    assert len(entries) == number == len({json.dumps(entry) for entry in entries})
    assert {entry["include"][0]["class"] for entry in entries if entry["tag"] == "single_object"} == set(CLASSES)


def test_fewer_prompts_per_task_still_name_every_class_once():
    tags = [entry["tag"] for entry in geneval_prompts(num=2)]
    assert tags.count("single_object") == 80
    assert len(tags) == 90


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text(to_jsonl(geneval_prompts()))
    assert read_metadata(path) == geneval_prompts()


def entry(**changes):
    clause = {"class": "cup", "count": 1}
    whole = {"tag": "position", "include": [clause, clause | {"position": ["above", 0]}], "prompt": "a cup"} | changes
    return json.dumps({name: value for name, value in whole.items() if value is not None})


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (entry(tag="colour"), "tag among .* got 'colour'"),
        (entry(tag=None), "tag among .* got None"),
        (entry(prompt=None), "a prompt, got None"),
        (entry(include=None), "lists of clauses"),
        (entry(exclude={}), "lists of clauses"),
        (entry(include=[{"class": "cup"}]), "count of at least 1"),
        (entry(include=[{"class": "cup", "count": True}]), "count of at least 1"),
        (entry(include=[{"count": 1}]), "clause with class and count"),
        (entry(include=[{"class": "cup", "count": 1, "color": "gray"}]), "color among"),
        (entry(include=[{"class": "cup", "count": 1, "position": ["above", 0]}]), "earlier clause"),
        (entry(include=[{"class": "cup", "count": 1, "position": "above"}]), "earlier clause"),
        *(
            (
                entry(include=[{"class": "cup", "count": 1}, {"class": "dog", "count": 1, "position": ["above", k]}]),
                "earlier",
            )
            for k in (0.0, False, 1, -1, "0", None)
        ),
        (entry(exclude=[{"class": "cup", "count": 0}]), "count of at least 1"),
        ("[1]", "an object with tag"),
        ('{"tag": "colors"', "one JSON object"),
        ("[" * 100_000, "one JSON object"),
    ],
)
def test_a_wrong_line_is_named_by_file_and_number(tmp_path, line, complaint):
    path = tmp_path / "own.jsonl"
    path.write_text(entry() + "\n\n" + line + "\n")
    with pytest.raises(ValueError, match=f"{complaint}.*") as caught:
        read_metadata(path)
    assert f"{path}:3" in str(caught.value)


def test_a_line_that_is_not_in_utf_8_is_named(tmp_path):
    (tmp_path / "own.jsonl").write_bytes(
        entry().encode() + b"\n" + entry(prompt="caf#").replace("#", "\xe9").encode("latin1")
    )
    with pytest.raises(ValueError, match=r"own\.jsonl:2"):
        read_metadata(tmp_path / "own.jsonl")


@pytest.mark.parametrize("name", ["absent.jsonl", ""])
def test_what_is_no_file_is_named(tmp_path, name):
    with pytest.raises(ValueError, match=f"Expected a file of metadata, got .*{tmp_path.name}"):
        read_metadata(tmp_path / name)


def test_a_file_without_prompts_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="at least one line"):
        read_metadata(tmp_path / "empty.jsonl")
