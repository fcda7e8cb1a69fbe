"""Reads `weighbridge.toml` into sections that know where they stand, and say what is wrong."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, time
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from schemas.errors import ConfigurationError

FILE = "weighbridge.toml"
_FEW = 20
_KINDS: list[tuple[type | tuple[type, ...], str]] = [
    (bool, "true or false"),
    ((int, float), "a number"),
    (str, "text"),
    (dict, "a table"),
    (list, "a list"),
    ((date, time), "a date or time"),
]


@dataclass(frozen=True)
class Value:
    """A value and where it stands, such as `weighbridge.toml [env.prod]`."""

    value: Any
    where: str


@dataclass(frozen=True)
class Section:
    """A table of the file."""

    file: str
    names: tuple[str, ...]
    table: Mapping[str, Any]

    @property
    def where(self) -> str:
        """Where it stands, for messages."""
        names = ".".join(quoted(name) for name in self.names)
        return f"{self.file} [{names}]" if names else self.file

    def wrong(self, text: str) -> ConfigurationError:
        """An error of this section."""
        return ConfigurationError(f"{self.where}: {text}")

    def known(self, key: str, names: Iterable[str], what: str) -> None:
        """Refuse a key that is none of the names, and suggest one.

        Raises:
            ConfigurationError: it is none of them.
        """
        names = set(names)
        if key in names:
            return
        near = get_close_matches(key, names, n=1)
        there = (
            listed(names) if len(names) <= _FEW else "what `weighbridge config show COMMAND` says"
        )
        hint = f"did you mean {near[0]}?" if near else f"there is {there or 'none'}"
        raise self.wrong(f"{quoted(key)} is no {what}; {hint}")

    def sections(self, key: str) -> list[Section]:
        """The tables below a key; none if it is not there.

        Raises:
            ConfigurationError: something else than tables stands there.
        """
        outer = self.below(key)
        inner = [] if outer is None else [outer.below(name) for name in outer.table]
        return [section for section in inner if section is not None]

    def below(self, key: str) -> Section | None:
        """The table at a key, None if it is not there.

        Raises:
            ConfigurationError: something else stands there.
        """
        if key not in self.table:
            return None
        value = self.table[key]
        if not isinstance(value, dict):
            raise self.wrong(f"{quoted(key)} is a section, and not {kind(value)}")
        return Section(self.file, (*self.names, key), value)


def read(path: Path) -> Section:
    """The whole file.

    Raises:
        ConfigurationError: it cannot be read, or is no TOML.
    """
    try:
        return Section(str(path), (), tomllib.loads(path.read_bytes().decode()))
    except OSError as error:
        raise ConfigurationError(f"--config {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8") from None
    except ValueError as error:  # a TOMLDecodeError, or what the parser lets through
        raise ConfigurationError(f"{path} is no TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{path} is no TOML: nested too deeply") from None


def kind(value: Any) -> str:
    """What kind of value it is, in words."""
    return next(name for types, name in _KINDS if isinstance(value, types))


def quoted(name: str) -> str:
    """A key as it may be printed."""
    return name if re.fullmatch(r"[\w.-]+", name) else repr(name)


def listed(names: Iterable[str]) -> str:
    """Names in order, for messages."""
    return ", ".join(sorted(names))
