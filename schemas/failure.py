"""What is kept of a refusal: stage, cause and a fingerprint, never an input value."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

from weighbridge import RecordError

MAX_TRACE = 1000
"""Characters of a stored traceback: what Pub/Sub takes as the value of an attribute."""
_LINE_NUMBER = re.compile(r"(?<=\.py):\d+")


class Stage(StrEnum):
    """Where a record can be refused while its bytes are still at hand."""

    DECODE = "decode"
    ROUTE = "route"
    EXTRACT = "extract"
    VALIDATE = "validate"


@dataclass(frozen=True, slots=True)
class Failure:
    """One refusal. The same cause gives the same fingerprint, whatever the record held.

    Attributes:
        stage: where it was refused.
        error: class of the error.
        message: what was wrong and where, without input values.
        fingerprint: 16 hex digits. Neither the place in the record nor line numbers are part of
            it: a bug stays the same one when something is added above it.
        traceback: frames of the extractor's own code, if it was refused there.
    """

    stage: Stage
    error: str
    message: str
    fingerprint: str
    traceback: str = ""

    @classmethod
    def of(cls, error: RecordError, model_id: str = "") -> Failure:
        """The failure of one record of a model ("" if its id is not to be trusted)."""
        known = _LINE_NUMBER.sub("", error.cause)
        cause = "\0".join((error.stage, model_id, error.error, known))
        return cls(
            Stage(error.stage),
            error.error,
            str(error),
            blake2b(cause.encode(), digest_size=8).hexdigest(),
            error.trace,
        )

    def attributes(self) -> Mapping[str, str]:
        """The attributes that a dead letter carries."""
        found = {
            "failure_stage": self.stage.value,
            "failure_error": self.error,
            "failure_message": self.message,
            "failure_fingerprint": self.fingerprint,
        }
        return {**found, "failure_traceback": self.traceback} if self.traceback else found


# Parts of pydantic's texts that come from the class. Others may come from the input.
_FROM_CLASS = frozenset(
    {
        *("class", "class_name", "discriminator", "expected", "expected_plural", "field_type"),
        *("encoding", "expected_schemes", "expected_tags", "expected_version", "tz_expected"),
        *("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length"),
        *("decimal_places", "max_digits", "whole_digits"),
    }
)
# Their text is made by other people's validators.
_FREE_TEXT = frozenset({"assertion_error", "value_error"})


def safe_message(item: Mapping[str, Any]) -> str:
    """The text of one pydantic error without what could come from the input.

    Args:
        item: of `ValidationError.errors()`, with its context.
    """
    kind, text = str(item["type"]), str(item["msg"])
    known = kind.startswith("weighbridge_") or kind in _known_types() - _FREE_TEXT
    parts = item.get("ctx", {}).keys() - _FROM_CLASS
    if known and not parts:
        return text
    if known and parts == {"actual_length"}:
        return text.partition(" after validation")[0]
    if known and kind.endswith("_parsing"):
        return text.partition(",")[0]
    return f"refused by its validator ({kind})"


def describe_refusal(error: Exception, row: type[BaseModel]) -> str:
    """Why a row class refuses a row: its first error, without input values."""
    if not isinstance(error, ValidationError):
        return f"its validator raised {describe_exception(error, row.__module__)}"
    item = _first(error)
    parts = item["loc"]
    if not parts:
        return safe_message(item)
    if parts[0] not in row.model_fields:
        near = get_close_matches(str(parts[0]), row.model_fields, n=1)
        hint = f"; is {near[0]} meant?" if near else ""
        return f"a column that {row.__name__} does not have{hint}"
    return f"column {_path(parts, row.__module__)}: {safe_message(item)}"


def describe_exception(error: BaseException, module: str) -> str:
    """Class and place of an exception that code of a module led to; its text may hold input values.

    A key, attribute or name is told if it is written in code.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = ""
    if own:
        place = f" at {Path(own[-1].filename).name}:{own[-1].lineno} ({own[-1].line})"
    if isinstance(error, ValidationError):
        item = _first(error)
        path = _path(item["loc"], module)
        return f"{error.title}: {path}{': ' if path else ''}{safe_message(item)}{place}"
    name = _named_in_code(error)
    return f"{type(error).__name__}{f' {name!r}' if name else ''}{place}"


def own_traceback(error: BaseException, module: str) -> str:
    """The frames of an exception that are code beside a module, with their source lines.

    Frames of libraries are left out, and so is the exception's text: both may show input. At most
    `MAX_TRACE` characters, the frames nearest to the error; "" if there are none.

    Args:
        error: what was raised.
        module: name of the extractor's module; helpers in its folder count as its code.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return ""
    folder = Path(file).parent
    text = ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).parent == folder:
            name = Path(frame.filename).name
            text = f"{name}:{frame.lineno} in {frame.name}: {frame.line}\n{text}"
            if len(text) > MAX_TRACE:
                return text[-MAX_TRACE:].partition("\n")[2].strip("\n")
    return text.strip("\n")


def _first(error: ValidationError) -> Mapping[str, Any]:
    return error.errors(include_input=False, include_url=False)[0]


def _path(parts: Iterable[int | str], module: str) -> str:
    """Where in a model: fields of the module's classes by name, as other keys may be input."""
    known = vars(sys.modules[module]).values() if module in sys.modules else ()
    models = [item for item in known if isinstance(item, type) and issubclass(item, BaseModel)]
    names = {name for model in models for name in model.model_fields}
    return "".join(
        "[]" if isinstance(part, int) else f".{part if part in names else '*'}" for part in parts
    ).lstrip(".")


def _named_in_code(error: BaseException) -> str:
    if isinstance(error, (AttributeError, NameError)):
        key: object = error.name
    else:
        key = error.args[0] if isinstance(error, KeyError) and error.args else None
    if not isinstance(key, str):
        return ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if key in code.co_consts or key in code.co_names:
            return key
        trace = trace.tb_next
    return ""


@cache
def _known_types() -> frozenset[str]:
    return frozenset(get_args(ErrorType))
