"""Prompts reach a command as they are, and mistakes are answered with a remedy."""

import builtins
import os

import pytest

from strokes.agents.command import PROMPT, check_writable, run, split_prompt

PROMPTS = [
    "a red circle, and a blue square",
    'it\'s a "star"',
    "(two) circles = {one: pair}, [x]",
    "$x ${HOME} ${oc.env:HOME} \\${y} $$",
    "une étoile → 星 🎨",
    "one\ntwo",
    "null",
    "true",
    "7",
    "~seed of a tree",
    "-5 degrees",
    "x=y, in red",
    "  spaces  ",
]


@pytest.fixture
def seen(monkeypatch, tmp_path):
    """Runs a command and returns the exit code and what its task was given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PROMPT, "")
    monkeypatch.delenv(PROMPT)
    given = []

    def task(settings, folder):
        given.append((settings.prompt, settings.seed, folder))
        return True

    return lambda *arguments: (run(task, "draw", arguments), given)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_bare_prompt_arrives_as_it_is(seen, prompt):
    code, given = seen(prompt, "seed=3")
    assert code == 0
    assert [settings[:2] for settings in given] == [(prompt, 3)]


@pytest.mark.parametrize("prompt", [*PROMPTS, "E=mc2", "--help", "policy=scripted"])
def test_a_prompt_given_by_key_is_taken_as_it_is(prompt):
    assert split_prompt([f"prompt={prompt}", "seed=3"], ["prompt", "seed"]) == ([prompt], ["seed=3"])


def test_a_prompt_in_the_environment_arrives_as_it_is(seen, monkeypatch):
    monkeypatch.setenv(PROMPT, prompt := "null, ${HOME} = 'x' (é)\n")
    code, given = seen()
    assert (code, given[0][0]) == (0, prompt)


def test_a_given_prompt_wins_over_the_environment(seen, monkeypatch):
    monkeypatch.setenv(PROMPT, "a moon")
    assert seen("a star")[1][0][0] == "a star"


def test_no_prompt_is_none(seen):
    assert seen()[1][0][0] is None


def test_everything_after_two_dashes_is_prompt():
    assert split_prompt(["seed=1", "--", "--help"], ["seed"]) == (["--help"], ["seed=1"])


def test_flags_keep_their_values():
    arguments = ["--cfg", "job", "-m", "seed=1,2", "--config-dir=/a b", "~policy.name", "+extra=1"]
    assert split_prompt(arguments, ["seed"]) == ([], arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x", "stepz=4"], ["'stepz'", "Did you mean 'steps'?"]),
        (["x", "polcy.name=a"], ["'polcy.name'", "Did you mean 'policy.name'?"]),
        (["x", "policy=scritped"], ["'scritped'", "Did you mean 'scripted'?"]),
        (["E=mc2"], ["'E'", "prompt=…"]),
        (["a", "red", "circle"], ["one prompt, got 3", "quotes"]),
        (["x", "seed=[1"], ["[1"]),
    ],
)
def test_a_mistake_is_answered_with_a_remedy(seen, capsys, arguments, words):
    code, given = seen(*arguments)
    message = capsys.readouterr().err
    assert (code, given) == (1, [])
    assert message.startswith("strokes-draw: ") and message.count("\n") == 1
    assert all(word in message for word in words), message


def test_an_output_folder_that_cannot_be_made_is_refused_before_anything_runs(seen, capsys, tmp_path):
    (tmp_path / "file").touch()
    code, given = seen("x", f"out={tmp_path}/file/deeper")
    assert (code, given) == (1, [])
    assert "file/deeper" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="can be written"):
        check_writable(tmp_path / "out")


def test_the_run_folder_records_the_configuration(seen, tmp_path):
    _, given = seen("x", "out=here", "seed=5")
    assert given[0][2].resolve() == (tmp_path / "here").resolve()
    assert "seed: 5" in (tmp_path / "here" / ".hydra" / "config.yaml").read_text()


@pytest.mark.parametrize("error", [ValueError("Expected a, got b."), OSError("disk full")])
def test_an_error_of_the_user_is_one_line(monkeypatch, tmp_path, capsys, error):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def task(settings, folder):
        raise error

    assert run(task, "draw", ["seed=1"]) == 1
    assert capsys.readouterr().err == f"strokes-draw: {error}\n"


def test_a_task_that_did_not_do_its_work_gives_exit_code_1(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(lambda settings, folder: False, "draw", []) == 1


def test_help_can_be_read_by_a_person(seen, capsys):
    assert seen("--help")[0] == 0
    assert 'strokes-draw "a red circle' in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["hydra", "torch"])
def test_a_missing_extra_is_named(monkeypatch, tmp_path, capsys, missing):
    monkeypatch.chdir(tmp_path)
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    def task(settings, folder):
        import torch  # noqa: F401

    monkeypatch.setattr(builtins, "__import__", absent)
    assert run(task, "draw", []) == 1
    message = capsys.readouterr().err
    assert missing in message and "strokes[train]" in message
