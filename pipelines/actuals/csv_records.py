"""Records of a CSV file, whose columns have one type each: that of all their values."""

from __future__ import annotations

import os
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv

from schemas import ConfigurationError

CHUNK = 1000
_UTF_16 = (BOM_UTF16_LE, BOM_UTF16_BE)
_BLOCK_BYTES = 2 << 20
"""No record may be longer. Arrow reads 32 of them ahead."""
_WHOLE = r"^-?(0|[1-9][0-9]{0,18})$"
_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_TAIL_BYTES = 64
_LONG = r"^-?[0-9]{16,}$"
_BOOLEAN = r"^(true|false|True|False|TRUE|FALSE)$"
_TYPES: tuple[tuple[str, Callable[[str], Any]], ...] = (
    (_BOOLEAN, lambda text: text.lower() == "true"),
    (_WHOLE, int),
    (_NUMBER, float),
)
"""In the order in which they are tried. Without leading zeros: what has them is an id."""
_LOW, _HIGH = -(1 << 63), (1 << 63) - 1


class CsvRecords:
    """The records of a CSV file in UTF-8 whose first line names the columns.

    A column is boolean, whole numbers of 64 bits or numbers if all its values are written so, and
    text otherwise; an empty value is null, unless it is quoted.

    Args:
        path: the file, which is read once here.
        delimiter: what stands between values.
        as_text: columns whose values are text, whatever they look like.

    Raises:
        ConfigurationError: no such CSV file, or no such column.
    """

    def __init__(self, path: Path, delimiter: str, as_text: Sequence[str]) -> None:
        self._path = path
        self._delimiter = delimiter
        self._wrong: tuple[int | None, int, int] | None = None
        with path.open("rb") as file:
            if file.read(2) in _UTF_16:  # its zero bytes would be read as characters
                raise ConfigurationError(f"{path}: it is UTF-16; convert it, e.g. with iconv")
        with self._reading(0):
            self.columns: list[str] = self._open([]).schema.names
        check_names(path, self.columns)
        self._check(as_text)
        self._casts, self.total = self._typed(as_text)

    def chunks(self) -> Iterator[tuple[list[dict[str, Any]], int]]:
        """Some records at a time, and how many came so far."""
        position = 0
        for batch in self._batches():
            for start in range(0, batch.num_rows, CHUNK):
                records = batch.slice(start, CHUNK).to_pylist()
                for name, cast in self._casts.items():
                    for record in records:
                        if record[name] is not None:
                            record[name] = cast(record[name])
                position += len(records)
                yield records, position

    def _check(self, as_text: Sequence[str]) -> None:
        unknown = [name for name in as_text if name not in self.columns]
        if unknown:
            raise ConfigurationError(
                f"--as_text: {self._path} has no column {unknown[0]}; it has "
                f"{', '.join(self.columns)}"
            )
        [first, *others] = self.columns
        near = [mark for mark in ";\t|" if not others and mark in first]
        if near:
            raise ConfigurationError(
                f"{self._path} has one column only, whose name holds {near[0]!r}; if values are "
                f"separated by it, add --delimiter {near[0]!r}"
            )

    def _typed(self, as_text: Sequence[str]) -> tuple[dict[str, Callable[[str], Any]], int]:
        left = {name: list(_TYPES) for name in self.columns if name not in as_text}
        filled = set()
        rows, last = 0, None
        for batch in self._batches():
            rows += batch.num_rows
            last = batch.column(batch.num_columns - 1)[-1].as_py() if batch.num_rows else last
            for name, types in left.items():
                values = batch.column(name).drop_null()
                if types and len(values):
                    filled.add(name)
                    left[name] = [one for one in types if _all(values, one[0])]
        if last and "\n" in last and not self._ends_with_quote():
            # Arrow ends such a value at the end of the file, with all records behind it inside.
            raise ConfigurationError(
                f"{self._path}: a quotation mark in record {rows} is not closed"
            )
        return {name: types[0][1] for name, types in left.items() if types and name in filled}, rows

    def _ends_with_quote(self) -> bool:
        with open(self._path, "rb") as stream:
            stream.seek(-min(_TAIL_BYTES, os.path.getsize(self._path)), os.SEEK_END)
            return stream.read().rstrip(b"\r\n").endswith(b'"')

    def _batches(self) -> Iterator[pa.RecordBatch]:
        rows = 0
        with self._reading(0):
            reader = self._open(self.columns)
        while True:
            with self._reading(rows):
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
            rows += batch.num_rows
            yield batch

    def _open(self, columns: Sequence[str]) -> pc_csv.CSVStreamingReader:
        return pc_csv.open_csv(
            self._path,
            # One thread, as several do not know the number of a record.
            pc_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
            pc_csv.ParseOptions(
                delimiter=self._delimiter,
                newlines_in_values=True,
                invalid_row_handler=self._refuse,
            ),
            pc_csv.ConvertOptions(
                # As text, since Arrow's types go by the first block, and its errors quote values.
                column_types={name: pa.string() for name in columns},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _refuse(self, row: pc_csv.InvalidRow) -> str:
        self._wrong = (row.number, row.expected_columns, row.actual_columns)
        return "error"

    @contextmanager
    def _reading(self, rows: int) -> Iterator[None]:
        """Say what is wrong with the file in own words: Arrow's quote its values."""
        try:
            yield
        except pa.ArrowException as error:
            raise ConfigurationError(f"{self._path}: {self._reason(error, rows)}") from None

    def _reason(self, error: Exception, rows: int) -> str:
        text = str(error)
        if self._wrong:
            number, expected, actual = self._wrong
            where = f"record {number - 1}" if number else f"behind record {rows} one"
            return (
                f"{where} has {actual} values and not {expected}; quote values that hold the "
                "delimiter, or name another one with --delimiter"
            )
        if "UTF8" in text or "UTF-8" in text:
            return f"behind record {rows} it is not UTF-8; convert it, e.g. with iconv"
        if "Empty CSV" in text:
            return "it is empty; its first line must name the columns"
        if "straddling" in text:
            return (
                f"behind record {rows} there is one of more than {_BLOCK_BYTES >> 20} MiB; look "
                "for a quotation mark that is not closed"
            )
        return f"behind record {rows} it is no CSV ({type(error).__name__})"


def check_names(path: Path, columns: Sequence[str]) -> None:
    """Refuse names that no JSON object can have.

    Raises:
        ConfigurationError: a name is there twice.
    """
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{path}: the column {twice[0]} is there twice; rename one")


def _all(values: pa.StringArray, pattern: str) -> bool:
    if not pc.all(pc.match_substring_regex(values, pattern)).as_py():
        return False
    if pattern == _NUMBER:
        # An id with so many digits would lose some; what is beyond all doubles, everything.
        fits = pc.and_(
            pc.invert(pc.match_substring_regex(values, _LONG)),
            pc.is_finite(pc.cast(values, pa.float64())),
        )
        return bool(pc.all(fits).as_py())
    if pattern == _WHOLE:
        long = values.filter(pc.greater(pc.utf8_length(values), 18)).to_pylist()
        return all(_LOW <= int(text) <= _HIGH for text in long)
    return True
