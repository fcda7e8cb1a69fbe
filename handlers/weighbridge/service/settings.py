"""The settings of a service: by constructor, or else by environment variable."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from weighbridge.service.handler import ModelHandler

PREFIX = "WEIGHBRIDGE_"
_MODEL_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class SettingsError(ValueError):
    """A setting is missing or wrong; the text names its variable."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Each field is also the variable `WEIGHBRIDGE_<FIELD>`.

    Args:
        handler: the `ModelHandler`, an object, a class, or "package.module:Class".
        model: the model's id.
        destination: where envelopes go, "projects/P/topics/T" or a folder.
        model_version: the model's version, if the handler does not say it.
        headers: names of request headers that are captured beside `weighbridge.KEPT_HEADERS`; as a
            variable with commas between.
        spool: a folder for what Pub/Sub does not take for some seconds; "" for none.
        spool_bytes: the most bytes in it.
        max_body_bytes: of a request; a larger one is refused, with status 413. Of a response that
            much is captured.
        threads: calls of a handler that is not `async`, at once.
        drain_seconds: from SIGTERM, how long to say "not ready" and go on answering, so that load
            balancers notice. Then the server stops taking connections.
        close_seconds: how long the publisher may take at the end.

    `WEIGHBRIDGE_SAMPLE` is a setting of the publisher itself.

    Raises:
        SettingsError: one is missing, or cannot be meant so.
    """

    handler: ModelHandler | type[ModelHandler] | str = ""
    model: str = ""
    destination: str = ""
    model_version: str = ""
    headers: tuple[str, ...] = ()
    spool: str = ""
    spool_bytes: int = 1 << 30
    max_body_bytes: int = 2 << 20
    threads: int = 16
    drain_seconds: float = 0.0
    close_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name, example in (
            ("handler", "my_package.handler:MyHandler"),
            ("model", "house-price"),
            ("destination", "projects/P/topics/T, or a folder"),
        ):
            if not getattr(self, name):
                raise SettingsError(f"{PREFIX}{name.upper()} is missing: set it to {example}")
        if not _MODEL_ID.fullmatch(self.model):
            raise SettingsError(
                f"{PREFIX}MODEL: {self.model!r} is no model id: {_MODEL_ID.pattern}"
            )
        for name in ("spool_bytes", "max_body_bytes", "threads"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{PREFIX}{name.upper()}: it must be at least 1")
        for name in ("drain_seconds", "close_seconds"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{PREFIX}{name.upper()}: it must not be below 0")

    @classmethod
    def of(cls, given: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
        """Those that are given; of the others, those of the environment.

        Raises:
            SettingsError: one is missing, or cannot be meant so.
        """
        values = dict(given)
        for one in fields(cls):
            variable = PREFIX + one.name.upper()
            if one.name not in values and environment.get(variable):
                values[one.name] = _read(variable, environment[variable], type(one.default))
        try:
            return cls(**values)
        except TypeError:
            known = {one.name for one in fields(cls)}
            unknown = ", ".join(sorted(set(values) - known))
            if not unknown:
                raise
            raise SettingsError(
                f"no such setting: {unknown}; there are {', '.join(sorted(known))}"
            ) from None

    def new_handler(self) -> ModelHandler:
        """The handler that is named.

        Raises:
            SettingsError: there is no such class, or it is no `ModelHandler`.
        """
        found = _imported(self.handler) if isinstance(self.handler, str) else self.handler
        if isinstance(found, type) and issubclass(found, ModelHandler):
            if missing := getattr(found, "__abstractmethods__", None):
                raise SettingsError(
                    f"{PREFIX}HANDLER: {found.__name__} has no {', '.join(sorted(missing))}"
                )
            found = found()
        if not isinstance(found, ModelHandler):
            raise SettingsError(
                f"{PREFIX}HANDLER: {self.handler} does not derive from "
                "weighbridge.service.ModelHandler"
            )
        return found


_KINDS: dict[type, tuple[Callable[[str], Any], str]] = {
    str: (str, "text"),
    int: (int, "a whole number"),
    float: (float, "a number"),
    tuple: (lambda text: tuple(part.strip() for part in text.split(",")), "names"),
}


def _read(variable: str, text: str, kind: type) -> Any:
    convert, name = _KINDS[kind]
    try:
        return convert(text)
    except ValueError:
        raise SettingsError(f"{variable}: {text!r} is not {name}") from None


def _imported(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise SettingsError(f"{PREFIX}HANDLER: {name!r} is not of the form package.module:Class")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and imports another one that is not
        raise SettingsError(
            f"{PREFIX}HANDLER: there is no module {error.name}; is its folder on PYTHONPATH?"
        ) from None
    except AttributeError:
        raise SettingsError(f"{PREFIX}HANDLER: {module} has no {attribute}") from None
