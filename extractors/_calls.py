"""One guarded call of an extractor: what it may give back, and what is wrong with anything else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from types import GeneratorType
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from extractors._registry import Extractor
from schemas.errors import DecodeError, ExtractError, RowValidationError
from schemas.failure import describe_exception, describe_refusal
from schemas.guard import TimeLimit, TimeLimitReached
from weighbridge import Envelope

Extracted: TypeAlias = tuple[Sequence[dict[str, Any]], bool]
"""Rows of one envelope as dicts, and whether the row class has checked them already."""
_DICTS = {dict}


class ExtractorCalls:
    """Calls one extractor, within its limits of rows and time.

    Args:
        extractor: the one.
        limit: ends calls that take too long; many extractors can share it.
    """

    def __init__(self, extractor: Extractor, limit: TimeLimit) -> None:
        self._row = extractor.row
        self._rows = {extractor.row}
        self._function = extractor.function
        self._most = extractor.settings.max_rows_per_envelope
        self._seconds = extractor.settings.timeout.total_seconds()
        self._limit = limit

    def extract(self, envelope: Envelope) -> Extracted:
        """The rows of one envelope.

        Raises:
            DecodeError: a body that the extractor asked for is broken.
            ExtractError: the extractor raised something, took too long, or gave what are no rows,
                or too many.
            RowValidationError: its row class refused in the constructor.
        """
        try:
            items = self._limit.call(self._list, envelope, self._seconds)
        except (DecodeError, KeyboardInterrupt):
            raise
        except TimeLimitReached:
            raise ExtractError(
                f"took longer than {self._seconds:g} s", error="TimeLimitReached"
            ) from None
        except ValidationError as error:
            raise self._refused(error) from None
        except BaseException as error:  # whatever the extractor's own code does, also sys.exit
            raise self._raised(error) from None
        if isinstance(items, ExtractError):
            raise items
        kinds = set(map(type, items))
        if kinds == _DICTS:
            return items, False
        if kinds == self._rows or all(issubclass(kind, self._row) for kind in kinds):
            return [item.__dict__ for item in items], True
        return self._mixed(items)

    def _list(self, envelope: Envelope) -> list[Any] | ExtractError:
        # Our own errors are returned, as one that the extractor raises may quote the input.
        result: Any = self._function(envelope)
        if type(result) is not GeneratorType and not _gives_rows(result):
            return ExtractError(f"returned {_kind_name(result)}; yield rows, or return a list")
        items = list(islice(result, self._most + 1))
        if len(items) > self._most:
            return ExtractError(
                f"gave more than {self._most} rows, ModelSettings.max_rows_per_envelope"
            )
        return items

    def _mixed(self, items: list[Any]) -> Extracted:
        rows = []
        for position, item in enumerate(items):
            if isinstance(item, dict):
                try:
                    item = self._row.model_validate(item)
                except Exception as error:  # a validator of the class's own raises what it likes
                    raise RowValidationError(
                        describe_refusal(error, self._row), detail=f"row {position}"
                    ) from None
            elif not isinstance(item, self._row):
                raise ExtractError(
                    f"gave {_kind_name(item)} for a row; rows are {self._row.__name__} or dict",
                    detail=f"row {position}",
                )
            rows.append(item.__dict__)
        return rows, True

    def _refused(self, error: ValidationError) -> Exception:
        if error.title != (self._row.model_config.get("title") or self._row.__name__):
            return self._raised(error)
        return RowValidationError(describe_refusal(error, self._row))

    def _raised(self, error: BaseException) -> ExtractError:
        described = describe_exception(error, self._function.__module__)
        return ExtractError(f"raised {described}", error=type(error).__name__)


def _gives_rows(result: Any) -> bool:
    # All of these are iterable, and would silently become something else.
    if isinstance(result, (BaseModel, dict, str, bytes)):
        return False
    try:
        iter(result)
    except TypeError:
        return False
    return True


def _kind_name(value: object) -> str:
    name = type(value).__name__
    if value is None:
        return "None"
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
