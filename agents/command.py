"""What the commands share: Hydra, behind a door where prompts and overrides are looked at first.

Hydra reads its arguments with a grammar in which commas, quotes, ``=``, ``${}`` and ``null`` mean something. A
prompt is taken out of the arguments before Hydra sees them and travels in the environment variable
``STROKES_PROMPT``, which the configuration reads with ``${oc.env:…}``: nothing in it is ever parsed. The other
arguments are composed once in advance, so that a mistyped key is answered with the nearest right one.
"""

import difflib
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

PROMPT = "STROKES_PROMPT"
"""Environment variable in which a prompt travels."""

INSTALL = (
    "install it with: pip install 'strokes[train]', or in a checkout: pip install -c constraints.txt -e '.[train]'."
)

NUMBER = (int, float)
"""Kinds of a setting that is a number, for ``check_number``."""

Settings = TypeVar("Settings")
_FLAG = re.compile(r"--?[A-Za-z][A-Za-z-]*(=.*)?", re.DOTALL)
_OVERRIDE = re.compile(r"(?:\+{1,2}|~)?(?P<root>[A-Za-z_][\w-]*)[\w./@:-]*=.*|~[A-Za-z_][\w./@:-]*", re.DOTALL)
_FLAGS_WITH_VALUE = {
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    *("--package", "-p", "--cfg", "-c", "--experimental-rerun"),
}


def run(task: Callable[[Any, Path], bool], config: str, arguments: Sequence[str] | None = None) -> int:
    """Compose the configuration and run ``task`` on it.

    Args:
        task: Takes the composed ``DictConfig`` and the run's folder; returns whether it did what it was asked.
        config: Name of the configuration in ``strokes.configs``; the command is ``strokes-{config}``.
        arguments: Command line without the program's name; ``None``: that of the process.

    Returns:
        The exit code: 0 only if every run of ``task`` returned true. Errors of the user are one line on
        the standard error; ``HYDRA_FULL_ERROR=1`` gives the traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        import hydra
    except ImportError:
        return fail(config, f"Expected the training stack, got no hydra-core; {INSTALL}")
    try:
        rest = _take_prompt(arguments, config)
        if not any(argument.startswith("-") for argument in rest):  # Hydra's own flags change what is composed
            _check(rest, config)
    except ValueError as error:
        return fail(config, str(error))
    outcomes: list[bool] = []

    def guarded(settings: Any) -> None:
        outcomes.append(_attempt(task, settings, config))

    argv, sys.argv = sys.argv, [f"strokes-{config}", *rest]
    try:
        hydra.main(version_base="1.3", config_path="pkg://strokes.configs", config_name=config)(guarded)()
    except SystemExit as end:  # Hydra's own errors, already printed
        return end.code if isinstance(end.code, int) else 1
    finally:
        sys.argv = argv
    return 0 if all(outcomes) else 1


def run_training(train: Callable[[Any, Path], bool], config: str) -> int:
    """``run`` of a training, with the exit code 143, as of SIGTERM, where it was asked to stop before its end.

    Args:
        train: Takes the composed ``DictConfig`` and the run's folder; returns whether the training is finished.
        config: As for ``run``.
    """

    def task(settings: Any, folder: Path) -> bool:
        if not train(settings, folder):
            raise SystemExit(128 + signal.SIGTERM)
        return True

    return run(task, config)


def fail(config: str, message: str) -> int:
    """Say on the standard error why the command did not do its work; the exit code 1."""
    print(f"strokes-{config}: {message}", file=sys.stderr)
    return 1


def _attempt(task: Callable[[Any, Path], bool], settings: Any, config: str) -> bool:
    from hydra.core.hydra_config import HydraConfig

    try:
        return task(settings, Path(HydraConfig.get().runtime.output_dir))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("strokes"):
            raise
        fail(config, f"Expected the training stack, got no {error.name}; {INSTALL}")
    except (ValueError, OSError, EOFError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        fail(config, str(error))
    return False


def split_prompt(arguments: Iterable[str], roots: Iterable[str]) -> tuple[list[str], list[str]]:
    """Separate prompts from what Hydra reads.

    A prompt is what follows ``prompt=`` or ``--``, and every argument that is neither a flag nor an
    override. An override has a key without spaces; where the key is none of ``roots`` and the whole
    argument has spaces in it ("x=y in red"), it is taken for a prompt too.

    Returns:
        The prompts, verbatim, and the remaining arguments.
    """
    roots = {*roots, "hydra"}
    prompts: list[str] = []
    rest: list[str] = []
    stream = iter(arguments)
    for argument in stream:
        key, _, value = argument.partition("=")
        override = _OVERRIDE.fullmatch(argument)
        if argument == "--":
            prompts.extend(stream)
        elif key.lstrip("+") == "prompt" and key != argument:
            prompts.append(value)
        elif _FLAG.fullmatch(argument):
            rest.extend([argument, *([next(stream, "")] if argument in _FLAGS_WITH_VALUE else [])])
        elif override and (override["root"] in roots or not re.search(r"\s", argument)):
            rest.append(argument)
        else:
            prompts.append(argument)
    return prompts, rest


def _take_prompt(arguments: list[str], config: str) -> list[str]:
    """Move the prompt, where there is one, into the environment; the arguments that are left."""
    from omegaconf import OmegaConf

    base = OmegaConf.load(Path(__file__).parents[1] / "configs" / f"{config}.yaml")
    if "prompt" not in base:
        return arguments
    prompts, rest = split_prompt(arguments, (str(key) for key in base))
    if len(prompts) > 1:
        raise ValueError(f"Expected one prompt, got {len(prompts)}: {prompts}; put quotes around it.")
    if prompts:
        os.environ[PROMPT] = prompts[0]
    return rest


def _check(overrides: list[str], config: str) -> None:
    """Compose once in advance; ``ValueError`` with a remedy where that fails.

    Also refuses an output folder that cannot be made, before anything long has been computed.
    """
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException

    with initialize_config_module("strokes.configs", version_base="1.3"):
        try:
            settings = compose(config, overrides, return_hydra_config=True)
        except HydraException as error:
            _explain(overrides, config)
            raise ValueError(" ".join(str(error).split())) from error
        check_writable(settings.hydra.run.dir)


def _explain(overrides: list[str], config: str) -> None:
    """``ValueError`` that names the unknown key or choice, if there is one."""
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    loader = GlobalHydra.instance().config_loader()
    try:
        parsed = OverridesParser.create(loader).parse_overrides(overrides)
    except OverrideParseException:
        return
    groups = {name: loader.get_group_options(name) for name in loader.list_groups("") if name != "hydra"}
    chosen = [str(o.input_line) for o in parsed if o.key_or_group in groups and _known_choice(o, groups)]
    known = {*_keys(compose(config, chosen)), *groups}
    for override in parsed:
        if not (override.is_add() or override.is_delete() or override.key_or_group.startswith("hydra")):
            _known_key(override.key_or_group, known)


def check_writable(folder: str | Path) -> None:
    """``ValueError`` unless ``folder`` is, or could be made, a folder in which one may write."""
    path = Path(folder).absolute()
    existing = next(parent for parent in (path, *path.parents) if os.path.lexists(parent))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"Expected an output folder that can be written, got {str(folder)!r}; set out=….")


def settings_from(config: Any, kind: type[Settings], name: str) -> Settings:
    """A composed ``DictConfig`` as the dataclass that mirrors it, see ``nested``."""
    from omegaconf import OmegaConf

    values: Any = OmegaConf.to_container(config, resolve=True)
    return nested(kind, values, name)


def nested(kind: type[Settings], values: Mapping[str, Any], name: str, where: str = "") -> Settings:
    """A mapping as the dataclass that mirrors it, and so on inside.

    Args:
        kind: The dataclass; its checks are done.
        values: Plain values.
        name: Of the configuration, for messages.
        where: Dotted prefix of the keys, for messages.

    Raises:
        ValueError: A key that is missing or not known, or a value that is refused.
    """
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if wrong := sorted(set(values) ^ set(names)):
        raise ValueError(f"Expected settings of configs/{name}.yaml, got {', '.join(where + key for key in wrong)}.")
    made = {}
    for key in names:
        kinds = (k for k in (hints[key], *get_args(hints[key])) if isinstance(k, type) and is_dataclass(k))
        inner = next(kinds, None)
        made[key] = values[key]
        if inner is not None and values[key] is not None:
            if not isinstance(values[key], Mapping):
                raise ValueError(f"Expected {where}{key} with the keys of configs/{name}.yaml, got {values[key]!r}.")
            made[key] = nested(inner, values[key], name, f"{where}{key}.")
    return kind(**made)


def check_number(name: str, value: Any, least: float, kinds: Sequence[type] = (int,)) -> None:
    """``ValueError`` unless a setting is of one of ``kinds`` and, where it is a number, at least ``least``."""
    if type(value) not in kinds or (value is not None and not value >= least):
        what = "a number" if float in kinds else "an integer"
        raise ValueError(f"Expected {name} to be {what} of at least {least}, got {value!r}.")


def check_choice(name: str, value: Any, known: Collection[str]) -> None:
    """``ValueError`` unless a setting is one of ``known``."""
    if value not in known:
        raise ValueError(f"Expected {name} among {', '.join(known)}, got {value!r}.")


def _known_choice(override: Any, groups: dict[str, list[str]]) -> bool:
    group, choice = override.key_or_group, str(override.value())
    options = groups[group]
    if choice not in options:
        raise ValueError(
            f"Expected {group} to be one of {', '.join(options)}, got {choice!r}.{_nearest(choice, options)}"
        )
    return True


def _known_key(key: str, known: Iterable[str]) -> None:
    known = sorted(known)
    if key not in known:
        tops = ", ".join(name for name in known if "." not in name)
        hint = " If it is part of the prompt, write prompt=… around the whole." if "prompt" in known else ""
        raise ValueError(f"Expected a key of the configuration ({tops}), got {key!r}.{_nearest(key, known)}{hint}")


def _nearest(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _keys(settings: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a configuration, nested ones with dots."""
    from omegaconf import DictConfig

    for key in settings:
        yield f"{prefix}{key}"
        node = settings._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
            yield from _keys(node, f"{prefix}{key}.")
