"""``tieline.yaml`` and the environment -> a Config, or every fault at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import yaml
from msgspec import Struct, inspect

from tieline.config import document
from tieline.config.check import Checker
from tieline.config.document import Signature, signature
from tieline.config.schema import Config
from tieline.types.errors import ConfigError

DEFAULT_NAME = "tieline.yaml"
OVERRIDE_PREFIX = "TIELINE_"
"""``TIELINE_SERVER__PORT=9000`` sets ``server.port``; two underscores go one level down."""


class ConfigErrors(ConfigError):
    """All that is wrong, one line each."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


class Loaded(Struct, frozen=True, kw_only=True):
    """A configuration and where each of its settings stands."""

    config: Config
    path: Path | None = None
    """None: no file, only defaults and the environment."""
    lines: dict[tuple[str, ...], int] = {}
    signature: Signature = None
    """The file's, from before it was read: what changes after that is an edit."""
    files: dict[Path, Signature] = {}
    """Of each ``file:`` in it, as well from before it was read."""

    def place(self, *path: str) -> str:
        """``tieline.yaml:12`` of a setting, or its path when no line is known: what ConfigError.place wants."""
        for length in range(len(path), 0, -1):
            line = self.lines.get(path[:length])
            if line is not None and self.path is not None:
                return f"{self.path.name}:{line}"
        return ".".join(path)

    def located(self, error: ConfigError) -> ConfigError:
        """An error found later, whose place is a setting's path, with the line where that setting stands."""
        if isinstance(error, ConfigErrors):
            return ConfigErrors(self.located(one) for one in error.errors)
        if not error.place or error.place.partition(".")[0] not in Config.__struct_fields__:
            return error
        return ConfigError(error.message, place=self._line_of(error.place), hint=error.hint)

    def _line_of(self, place: str) -> str:
        """Of the innermost setting around ``models.gpt-4.1.fallbacks[0]``: names may have dots in them."""
        dotted = place.replace("[", ".").replace("]", "") + "."
        around = [path for path in self.lines if dotted.startswith(".".join(path) + ".")]
        if not around or self.path is None:
            return place
        return f"{self.path.name}:{self.lines[max(around, key=len)]}: {place}"


def find(environ: Mapping[str, str]) -> Path | None:
    """``$TIELINE_CONFIG``, else ``./tieline.yaml`` if it is there. Raises ConfigError when the named file is not."""
    named = environ.get("TIELINE_CONFIG")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise ConfigError(f"no such file: {named}", place="TIELINE_CONFIG")
        return path
    path = Path(DEFAULT_NAME)
    return path if path.is_file() else None


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """The file (None: looked for as ``find`` says) with references replaced. Raises ConfigErrors."""
    environ = os.environ if environ is None else environ
    path = path or find(environ)
    if path is None:
        return parse("", environ)
    before = signature(path)
    try:
        text = document.read(path)
    except document.Syntax as error:
        raise ConfigErrors([error]) from error
    return msgspec.structs.replace(parse(text, environ, path), signature=before)


def parse(text: str, environ: Mapping[str, str], path: Path | None = None) -> Loaded:
    """As ``load``, from text. Raises ConfigErrors."""
    name = path.name if path else DEFAULT_NAME
    try:
        root = document.compose(text, name)
    except document.Syntax as error:
        raise ConfigErrors([error]) from error
    checker = Checker(name, environ)
    kind = inspect.type_info(Config)
    data = checker.check(root, kind) if root is not None else {}
    errors = checker.errors + _override(data, environ, checker.files)
    if errors:
        raise ConfigErrors(errors)
    return Loaded(config=_convert(data, name), path=path, lines=checker.lines, files=checker.files)


def _convert(data: object, name: str) -> Config:
    try:
        return msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        raise ConfigErrors([ConfigError(str(error), place=name)]) from error


def _override(
    data: dict[str, object], environ: Mapping[str, str], files: dict[Path, Signature]
) -> list[ConfigError]:
    """Puts ``TIELINE_A__B`` over what the file says; the checker sees each as a file of one setting."""
    errors: list[ConfigError] = []
    for variable in sorted(environ):
        if not variable.startswith(OVERRIDE_PREFIX) or "__" not in variable:
            continue
        keys = variable[len(OVERRIDE_PREFIX) :].lower().split("__")
        checker = Checker(variable, {})
        checked = checker.check(_nested(keys, environ[variable]), inspect.type_info(Config))
        errors += [ConfigError(error.message, place=variable, hint=error.hint) for error in checker.errors]
        _merge(data, checked)
        files.update(checker.files)
    return errors


def _nested(keys: list[str], value: str) -> yaml.Node:
    node: yaml.Node = yaml.ScalarNode("tag:yaml.org,2002:str", value.replace("${", "$${"))
    for key in reversed(keys):
        node = yaml.MappingNode(
            "tag:yaml.org,2002:map", [(yaml.ScalarNode("tag:yaml.org,2002:str", key), node)]
        )
    return node


def _merge(base: dict[str, object], over: dict[str, object]) -> None:
    for key, value in over.items():
        below = base.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            _merge(below, value)
        else:
            base[key] = value
