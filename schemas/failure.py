"""What is kept of a refusal: stage, cause and a fingerprint, never an input value."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from weighbridge import RecordError


class Stage(StrEnum):
    """Where a record can be refused while its bytes are still at hand."""

    DECODE = "decode"
    ROUTE = "route"
    EXTRACT = "extract"
    VALIDATE = "validate"


@dataclass(frozen=True, slots=True)
class Failure:
    """One refusal. The same cause gives the same fingerprint, whatever the record held."""

    stage: Stage
    error: str
    message: str
    fingerprint: str

    @classmethod
    def of(cls, error: RecordError, model_id: str = "") -> Failure:
        """The failure of one record of a model ("" if its id is not to be trusted)."""
        cause = "\0".join((error.stage, model_id, error.error, error.cause))
        return cls(
            Stage(error.stage),
            error.error,
            str(error),
            blake2b(cause.encode(), digest_size=8).hexdigest(),
        )

    def attributes(self) -> Mapping[str, str]:
        """The attributes that a dead letter carries."""
        return {
            "failure_stage": self.stage.value,
            "failure_error": self.error,
            "failure_message": self.message,
            "failure_fingerprint": self.fingerprint,
        }


# Texts of these are made by other people's validators and may quote the input.
_UNSAFE = frozenset(
    {
        "assertion_error",
        "bytes_invalid_encoding",
        "get_attribute_error",
        "iteration_error",
        "union_tag_invalid",
        "value_error",
    }
)


def safe_message(item: Mapping[str, Any]) -> str:
    """The text of one pydantic error, or only its type where the text could quote the input."""
    kind: str = item["type"]
    ours = kind.startswith("weighbridge_")
    known = kind in _known_types() and kind not in _UNSAFE
    return str(item["msg"]) if ours or known else f"refused by its validator ({kind})"


def describe_validation(error: ValidationError, fields: Mapping[str, object]) -> tuple[str, str]:
    """The first error of a model as (column, message). Keys that are not ours are not quoted."""
    item = error.errors(include_input=False, include_url=False, include_context=False)[0]
    parts = item["loc"]
    if parts and parts[0] not in fields:
        return "", "a column that the row class does not have"
    path = ".".join(str(part) for part in parts[:1]) + "".join(
        "[]" if isinstance(part, int) else ".*" for part in parts[1:]
    )
    return path, safe_message(item)


def describe_exception(error: BaseException, function_file: str) -> str:
    """Class and place of an exception that an extractor raised; its text may hold input values.

    A key or attribute is named if it is written in the extractor's own code.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == function_file]
    place = ""
    if own:
        place = f" at {Path(own[-1].filename).name}:{own[-1].lineno} ({own[-1].line})"
    if isinstance(error, ValidationError):
        items = error.errors(include_input=False, include_url=False, include_context=False)
        # What is missing is a name from the class; any other path may hold keys of the input.
        field = f"{items[0]['loc'][-1]}: " if items[0]["type"] == "missing" else ""
        return f"{error.title}: {field}{safe_message(items[0])}{place}"
    name = _named_in_code(error)
    return f"{type(error).__name__}{f' {name!r}' if name else ''}{place}"


def _named_in_code(error: BaseException) -> str:
    key = error.args[0] if isinstance(error, KeyError) and error.args else None
    if not isinstance(key, str):
        return ""
    trace = error.__traceback__
    while trace is not None:
        if key in trace.tb_frame.f_code.co_consts:
            return key
        trace = trace.tb_next
    return ""


@cache
def _known_types() -> frozenset[str]:
    from typing import get_args

    from pydantic_core.core_schema import ErrorType

    return frozenset(get_args(ErrorType))
