"""Registers extractors by decorator, and loads the modules of a package that hold them."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

from extractors._modules import import_modules, version_of
from schemas.arize import ModelType, check_columns, check_model_type, check_settings
from schemas.buffer import RowShape
from schemas.errors import ConfigurationError, DuplicateModelIdError, InvalidExtractorError
from schemas.row import Row
from schemas.settings import ModelSettings
from weighbridge import Envelope
from weighbridge.wire import Kind

F = TypeVar("F", bound=Callable[[Envelope], Iterable[Any]])
Extractors = Mapping[tuple[str, Kind], "Extractor"]

MODEL_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
OK = range(200, 300)
MAX_TABLE_VERSION = 99
_log = logging.getLogger("weighbridge")


@dataclass(frozen=True)
class Extractor:
    """One registered function: how envelopes of (model_id, kind) become rows of one table."""

    model_id: str
    kind: Kind
    row: type[Row]
    model_type: ModelType
    settings: ModelSettings
    function: Callable[[Envelope], Iterable[Any]]
    statuses: range | None
    inherits: bool = False
    """Actuals that were given no model type: they take it, and settings, from the predictions."""
    version: str = ""
    table_version: int = 1

    @property
    def table(self) -> str:
        """Name of its table: that of its latest version."""
        return self.tables[-1]

    @property
    def tables(self) -> list[str]:
        """Names of its tables, one for each version so far.

        Table names have no hyphens, actuals have tables of their own, and the first has no number.
        """
        name = self.model_id.replace("-", "_")
        if self.kind == "actual":
            name = f"{name}_actuals"
        return [name, *(f"{name}_v{number}" for number in range(2, self.table_version + 1))]

    @property
    def pushed(self) -> bool:
        """Whether its rows go to Arize."""
        return self.model_type != "untyped" and self.settings.arize == "push"

    def shape(self) -> RowShape:
        """Everything that follows from its row class."""
        return RowShape.of(self.row, self.model_id, self.model_type, self.version)

    @property
    def place(self) -> str:
        """File and line of the function, for error messages."""
        code = inspect.unwrap(self.function).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"


_registered: dict[str, list[Extractor]] = {}
"""By module, as more than one package may be loaded into a process."""


def extractor(
    model_id: str,
    *,
    row: type[Row],
    model_type: ModelType | None = None,
    kind: Kind = "prediction",
    settings: ModelSettings | None = None,
    statuses: range | None = OK,
    table_version: int = 1,
) -> Callable[[F], F]:
    """Register the decorated function, returned unchanged, for the envelopes of one model.

    Args:
        model_id: `[a-z0-9][a-z0-9_-]{0,62}`; its table has `_` for `-`.
        row: class of the rows that the function gives.
        model_type: what Arize monitors it as; "untyped" keeps it out of Arize. Actuals may leave it
            out and take that of their predictions.
        kind: "prediction", or "actual" for what turned out to be true.
        settings: owner, limits, whether and where it goes in Arize.
        statuses: envelopes with another HTTP status are skipped and counted; None takes all.
        table_version: a higher one begins a new table, `<table>_v2` and so on, for rows that the
            table so far does not fit; readers show the rows of all versions together.

    Raises:
        InvalidExtractorError: anything of this that cannot work, with the remedy.
    """
    _check_arguments(model_id, row, model_type, kind, settings, statuses, table_version)

    def register(function: F) -> F:
        _check_function(function, model_id)
        entry = Extractor(
            model_id,
            kind,
            row,
            model_type or "untyped",
            settings or ModelSettings(),
            function,
            statuses,
            inherits=model_type is None,
            table_version=table_version,
        )
        _add(entry)
        return function

    return register


def _check_arguments(
    model_id: object,
    row: object,
    model_type: ModelType | None,
    kind: object,
    settings: object,
    statuses: object,
    table_version: object,
) -> None:
    if not (isinstance(model_id, str) and MODEL_ID.fullmatch(model_id)):
        raise InvalidExtractorError(
            f"model id {model_id!r}: use 1 to 63 of a-z, 0-9, - and _, and begin with a-z or 0-9"
        )
    if kind not in ("prediction", "actual"):
        raise InvalidExtractorError(f'{model_id}: kind is "prediction" or "actual", not {kind!r}')
    if not (isinstance(row, type) and issubclass(row, Row) and row is not Row):
        raise InvalidExtractorError(f"{model_id}: row= takes a class derived from Row")
    if kind == "prediction" or model_type is not None:
        try:
            check_model_type(model_type)
        except InvalidExtractorError as error:
            raise InvalidExtractorError(f"{model_id}: {error}") from None
    if not isinstance(settings, ModelSettings | None):
        raise InvalidExtractorError(
            f'{model_id}: settings= takes ModelSettings(…), e.g. ModelSettings(owner="a-team@…")'
        )
    if not isinstance(statuses, range | None):
        raise InvalidExtractorError(
            f"{model_id}: statuses= takes a range, e.g. range(200, 300), or None for all"
        )
    if type(table_version) is not int or not 1 <= table_version <= MAX_TABLE_VERSION:
        raise InvalidExtractorError(
            f"{model_id}: table_version= takes a whole number from 1 to {MAX_TABLE_VERSION}"
        )


def _add(entry: Extractor) -> None:
    # A module or notebook cell that is executed again defines the same function again.
    entries = _registered.setdefault(entry.function.__module__, [])
    entries[:] = [other for other in entries if _names(other) != _names(entry)]
    entries.append(entry)


def _names(entry: Extractor) -> tuple[str, Kind, str]:
    return entry.model_id, entry.kind, entry.function.__name__


def load_extractors(package: str = "extractors", exclude: Collection[str] = ()) -> Extractors:
    """Import the modules of a package, but those with `_` in front, for what they register.

    Args:
        package: name of the package.
        exclude: ids of models that are left out, or names of modules for all of theirs. Of these a
            module may fail to be imported. What is left out is logged, and its envelopes are parked
            as those of any model that nobody registered.

    Raises:
        ConfigurationError: a package or module that cannot be imported or used, with file and line;
            or `exclude` names what is not there.
        DuplicateModelIdError: two extractors for one model id and kind, or for one table.
    """
    modules, named = import_modules(package, exclude)
    entries = [
        replace(entry, version=version)
        for module in modules
        if module.__name__ in _registered
        for version in [version_of(module)]  # once a module, however many models it has
        for entry in _registered[module.__name__]
    ]
    kept = _without(entries, exclude, named, package)
    if not kept:
        raise ConfigurationError(
            f"package {package} registers no extractor: decorate a function with @extractor, as "
            "extractors/_template.py does"
            if not exclude
            else f"--exclude_model leaves no extractor of package {package}"
        )
    return _checked(kept)


def _without(
    entries: list[Extractor], exclude: Collection[str], named: set[str], package: str
) -> list[Extractor]:
    """What is not excluded; `named` are those names that a module has, which failed."""
    kept = entries
    for name in dict.fromkeys(exclude):
        out = [entry for entry in entries if entry.model_id == name] or [
            entry for entry in entries if entry.function.__module__ == f"{package}.{name}"
        ]
        if not out and name not in named:
            there = ", ".join(sorted({entry.model_id for entry in entries}))
            raise ConfigurationError(
                f"--exclude_model {name}: neither a model nor a module of {package}; it has {there}"
            )
        for model_id in dict.fromkeys(entry.model_id for entry in out):
            _log.warning("%s is excluded: its envelopes are parked", model_id)
        kept = [entry for entry in kept if entry not in out]
    return kept


def extractor_of(function: Callable[[Envelope], Iterable[Any]]) -> list[Extractor]:
    """The registrations of a function, those of its module's actuals resolved."""
    entries = _registered.get(function.__module__, [])
    module = sys.modules[function.__module__]
    loaded = _checked([replace(entry, version=version_of(module)) for entry in entries])
    return [entry for entry in loaded.values() if entry.function is function]


def _checked(entries: list[Extractor]) -> Extractors:
    found: dict[tuple[str, Kind], Extractor] = {}
    tables: dict[str, Extractor] = {}
    for entry in entries:
        other = found.get((entry.model_id, entry.kind)) or tables.get(entry.table)
        if other is not None:
            what = "table name" if other.model_id != entry.model_id else "model id and kind"
            raise DuplicateModelIdError(
                f"{entry.place}: {entry.model_id} ({entry.kind}) has the same {what} as "
                f"{other.model_id} ({other.kind}) at {other.place}; rename one of them"
            )
        found[entry.model_id, entry.kind] = tables[entry.table] = entry
    for key, entry in found.items():
        try:
            _check_importable(entry.function)
            found[key] = entry = _with_type(entry, found)
            check_columns(entry.shape().columns, entry.model_type, entry.kind)
            check_settings(entry.settings, entry.model_type)
        except InvalidExtractorError as error:
            raise InvalidExtractorError(f"{entry.place}: {entry.model_id}: {error}") from None
    return MappingProxyType(found)


def _with_type(entry: Extractor, found: Mapping[tuple[str, Kind], Extractor]) -> Extractor:
    prediction = found.get((entry.model_id, "prediction"))
    if entry.inherits:
        if prediction is None:
            raise InvalidExtractorError(
                "there are actuals and no predictions to take the model type from; give model_type="
            )
        own = entry.settings != ModelSettings()
        settings = entry.settings if own else prediction.settings
        return replace(entry, model_type=prediction.model_type, settings=settings)
    if prediction is not None and entry.model_type not in (prediction.model_type, "untyped"):
        raise InvalidExtractorError(
            f'its actuals are "{entry.model_type}", its predictions "{prediction.model_type}"; '
            "leave out model_type= of the actuals"
        )
    return entry


def _check_function(function: Callable[..., Any], model_id: str) -> None:
    if not inspect.isfunction(inspect.unwrap(function)):
        raise InvalidExtractorError(f"{model_id}: @extractor takes a function")
    name = function.__qualname__
    if "." in name or "<" in name:
        raise InvalidExtractorError(
            f"{model_id}: {name} is no function of a module; workers import it by name, so define "
            "it with def at the top of the module"
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidExtractorError(f"{model_id}: {name} must not be async; write def, not async")
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise InvalidExtractorError(
            f"{model_id}: {name} must take one argument, the envelope"
        ) from None


def _check_importable(function: Callable[..., Any]) -> None:
    name = function.__name__
    if getattr(sys.modules[function.__module__], name, None) is not function:
        raise InvalidExtractorError(
            f"workers import its function by name, and {name} is something else at the end of its "
            "module; give each function a name of its own, and put @extractor on top"
        )
