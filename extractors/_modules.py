"""Imports the modules of a package of extractors, and says what is wrong with one."""

from __future__ import annotations

import ast
import importlib
import logging
import pkgutil
import traceback
from collections.abc import Collection
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from schemas.errors import ConfigurationError, InvalidExtractorError

_log = logging.getLogger("weighbridge")
_OURS = (__file__, str(Path(__file__).with_name("_registry.py")), importlib.__file__)


def import_modules(package: str, exclude: Collection[str]) -> tuple[list[ModuleType], set[str]]:
    """Import the modules of a package, but those with `_` in front.

    Args:
        package: its name.
        exclude: models or modules that are not wanted; a module of that name, or with `_` for `-`,
            may fail to be imported.

    Returns:
        The modules, and those of `exclude` whose module failed.

    Raises:
        ConfigurationError: a package or module that cannot be imported, with file and line.
    """
    if not all(part.isidentifier() for part in package.split(".")):
        raise ConfigurationError(f"{package!r} is no name of a package, as in my_team.extractors")
    parent = _imported(package)
    if not hasattr(parent, "__path__"):
        raise ConfigurationError(f"{package} is a module; name a package, a folder of modules")
    names = [info.name for info in pkgutil.iter_modules(parent.__path__)]
    modules: list[ModuleType] = []
    failed: set[str] = set()
    for name in names:
        if name.startswith("_"):
            continue
        try:
            modules.append(_imported(f"{package}.{name}"))
        except ConfigurationError as error:
            ways = {other for other in exclude if name in (other, other.replace("-", "_"))}
            if not ways:
                raise type(error)(f"{error}; {remedy(name)}") from None
            failed |= ways
            _log.warning("module %s.%s is excluded, as it fails to be imported", package, name)
    return modules, failed


def remedy(module: str) -> str:
    """What to do about a module that stops a launch."""
    return (
        f"mend the module, or leave it out: with --exclude_model {module}, which parks its "
        "envelopes, or by a name that begins with _"
    )


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
    """One message with the place in the package that is to blame."""
    place = module
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in _OURS and frame.filename[0] != "<"
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
    return InvalidExtractorError(f"{place}: {_text(error)}")


def _text(error: BaseException) -> str:
    if isinstance(error, ValidationError):  # of ModelSettings, mostly
        wrong = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(map(str, wrong["loc"]))
        if wrong["type"] == "extra_forbidden":
            return f"{error.title} has no {field}"
        return f"{error.title}: {field}: {wrong['msg']}"
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return ": ".join([type(error).__name__, *message.splitlines()[:1]])


def version_of(module: ModuleType) -> str:
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
