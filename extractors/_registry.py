"""Registers extractors by decorator, and loads the modules of a package that hold them."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

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
    _check_arguments(model_id, row, model_type, kind, statuses, table_version)

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


def load_extractors(package: str = "extractors") -> Extractors:
    """Import the modules of a package, but those with `_` in front, for what they register.

    Raises:
        ConfigurationError: a package or module that cannot be imported or used, with file and line.
        DuplicateModelIdError: two extractors for one model id and kind, or for one table.
    """
    modules = _import_modules(package)
    entries = [
        replace(entry, version=version)
        for module in modules
        if module.__name__ in _registered
        for version in [_version(module)]  # once a module, however many models it has
        for entry in _registered[module.__name__]
    ]
    if not entries:
        raise ConfigurationError(
            f"package {package} registers no extractor; copy extractors/_template.py into it"
        )
    return _checked(entries)


def extractor_of(function: Callable[[Envelope], Iterable[Any]]) -> list[Extractor]:
    """The registrations of a function, those of its module's actuals resolved."""
    entries = _registered.get(function.__module__, [])
    module = sys.modules[function.__module__]
    loaded = _checked([replace(entry, version=_version(module)) for entry in entries])
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


def _import_modules(package: str) -> list[ModuleType]:
    if not all(part.isidentifier() for part in package.split(".")):
        raise ConfigurationError(f"{package!r} is no name of a package, as in my_team.extractors")
    parent = _imported(package)
    if not hasattr(parent, "__path__"):
        raise ConfigurationError(f"{package} is a module; name a package, a folder of modules")
    names = [info.name for info in pkgutil.iter_modules(parent.__path__)]
    return [_imported(f"{package}.{name}") for name in names if not name.startswith("_")]


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise ConfigurationError(
                f"there is no package {name}; run where it can be imported, or install it"
            ) from None
        raise _broken(name, error) from None


def _broken(module: str, error: BaseException) -> ConfigurationError:
    """One message with the place in the package that is to blame, and what to do."""
    place = module
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in (__file__, importlib.__file__) and frame.filename[0] != "<"
    ]
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}"
    elif frames:
        # The first is the module's own; behind it may come helpers beside it, and libraries.
        folder = Path(frames[0].filename).parent
        own = [frame for frame in frames if Path(frame.filename).parent == folder]
        place = f"{own[-1].filename}:{own[-1].lineno}"
    if isinstance(error, ConfigurationError):
        return type(error)(f"{place}: {error}")
    text = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
    return InvalidExtractorError(
        f"{place}: {text}; mend the module, or begin its name with _ to leave it out"
    )


def _version(module: ModuleType) -> str:
    """A short hash over the module and the helpers `_*.py` of its package that it imports."""
    digest = blake2b(digest_size=4)
    for path in _sources(Path(str(module.__file__)), set()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources(path: Path, seen: set[Path]) -> list[Path]:
    if path in seen or not path.is_file():
        return []
    seen.add(path)
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            names |= set((node.module or "").split("."))
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {part for alias in node.names for part in alias.name.split(".")}
    found = [path]
    for name in sorted(names):
        if name.startswith("_") and not name.startswith("__"):
            found += _sources(path.with_name(f"{name}.py"), seen)
    return found
