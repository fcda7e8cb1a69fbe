"""Records of a Parquet, CSV or Avro file, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.actuals.csv_records import CsvRecords, check_names
from schemas import ConfigurationError

Record: TypeAlias = dict[str, Any]
CHUNK = 1000
FORMATS = ("parquet", "csv", "avro")
SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".avro": "avro"}
_BUFFER_BYTES = 1 << 20


class Records(Protocol):
    """The records of one file, as often as they are iterated over.

    Attributes:
        columns: names of their fields.
        total: what the position reaches at the end.
    """

    columns: list[str]
    total: int

    def chunks(self) -> Iterator[tuple[list[Record], int]]:
        """Some records at a time, and the position behind them.

        Raises:
            ConfigurationError: the file is damaged, or not what it claims to be.
        """


@dataclass(frozen=True)
class CsvForm:
    """What a CSV file does not say about itself."""

    delimiter: str = ","
    as_text: tuple[str, ...] = ()


def open_records(path: Path, form: str = "", csv: CsvForm | None = None) -> Records:
    """The records of a file.

    Args:
        path: the file.
        form: one of `FORMATS`; "" goes by the file's suffix.
        csv: what is to be known of a CSV file.

    Raises:
        ConfigurationError: no such format, no such file, or a field twice.
    """
    form = form or SUFFIXES.get(path.suffix.lower(), "")
    if not form:
        raise ConfigurationError(
            f"{path}: its name ends in none of {', '.join(SUFFIXES)}; say what it is with --format"
        )
    if csv and form != "csv":
        raise ConfigurationError(
            f"--as_text and --delimiter are for CSV, and {path} is {form}; drop them"
        )
    records: CsvRecords | _Parquet | _Avro
    if form == "csv":
        csv = csv or CsvForm()
        records = CsvRecords(path, csv.delimiter, csv.as_text)
    else:
        records = _Parquet(path) if form == "parquet" else _Avro(path)
    check_names(path, records.columns)
    return records


class _Parquet:
    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as file:
            self.columns: list[str] = file.schema_arrow.names
            self.total: int = file.metadata.num_rows

    def chunks(self) -> Iterator[tuple[list[Record], int]]:
        position = 0
        with self._open() as file:
            try:
                for batch in file.iter_batches(CHUNK, use_threads=False):
                    position += batch.num_rows
                    yield batch.to_pylist(maps_as_pydicts="strict"), position
            except (pa.ArrowException, OSError) as error:
                raise _damaged(self._path, position, error) from None
            except KeyError:
                raise ConfigurationError(
                    f"{self._path}: a map behind record {position} has a key twice, and a JSON "
                    "object cannot; write it as a list of pairs"
                ) from None

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except pa.ArrowException:
            raise ConfigurationError(f"{self._path} is no Parquet file; see --format") from None


class _Avro:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.total = os.path.getsize(path)
        with open(path, "rb") as stream:
            schema = self._reader(stream).writer_schema
        if schema.get("name", "").endswith("PubsubMessage"):
            raise ConfigurationError(
                f"{path} is an archive file, whose messages `weighbridge run` reads as they are"
            )
        if schema.get("type") != "record":
            raise ConfigurationError(f"{path}: its schema is no record, so there are no fields")
        self.columns = [field["name"] for field in schema["fields"]]

    def chunks(self) -> Iterator[tuple[list[Record], int]]:
        with open(self._path, "rb") as stream:
            records = iter(self._reader(stream))
            read = 0
            while True:
                try:
                    chunk = list(islice(records, CHUNK))
                except Exception as error:  # fastavro raises whatever broken bytes lead it into
                    raise _damaged(self._path, read, error) from None
                if not chunk:
                    return
                read += len(chunk)
                yield chunk, stream.tell()

    def _reader(self, stream: Any) -> Any:
        try:
            return fastavro.reader(stream)
        except Exception:  # as above
            raise ConfigurationError(f"{self._path} is no Avro file; see --format") from None


def _damaged(path: Path, read: int, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"{path}: it cannot be read behind record {read} ({type(error).__name__}); it is damaged "
        "or was not written to its end"
    )
