"""What a manifest says of a data file: its size, counts and bounds, from the file's footer."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    StatisticsCollector,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_file_to_data_file,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table

KEPT = 2000
"""Kinds of files that are remembered: about as many as tables and versions at work."""
_METRICS = "write.metadata.metrics."


class _Plan(NamedTuple):
    """What of a footer counts, by field id, and whose each of its columns is."""

    statistics: dict[int, StatisticsCollector]
    fields: dict[str, int]


_fitting: dict[Any, _Plan] = {}
"""By columns of the table and of the file, and the table's settings of metrics."""


def describe(table: Table, location: str) -> DataFile:
    """What PyIceberg's `parquet_file_to_data_file` gives for a file of a table.

    That compares the columns of file and table each time, which takes longer than reading what is
    said of them. Here it is asked about the first file of a kind only.

    Raises:
        ValueError: a file that does not fit the table's columns or partitions.
    """
    source, schema = table.io.new_input(location), table.schema()
    with source.open() as stream:
        footer = pq.read_metadata(stream)
    settings = {k: v for k, v in table.properties.items() if k.startswith(_METRICS)}
    kind = schema.fields, footer.schema.to_arrow_schema(), frozenset(settings.items())
    plan = _fitting.get(kind)
    if plan is None:
        file = parquet_file_to_data_file(table.io, table.metadata, location)
        if len(_fitting) >= KEPT:
            _fitting.clear()
        statistics = compute_statistics_plan(schema, table.properties)
        _fitting[kind] = _Plan(statistics, parquet_path_to_id_mapping(schema))
        return file
    found = data_file_statistics_from_parquet_metadata(footer, plan.statistics, plan.fields)
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=found.partition(table.spec(), schema),
        file_size_in_bytes=len(source),
        **found.to_serialized_dict(),
    )
