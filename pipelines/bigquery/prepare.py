"""Creates and evolves the tables of a dataset, and the views over them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import google.cloud.bigquery as bigquery
import pyarrow as pa
from google.api_core import exceptions as google

from extractors import Extractor
from pipelines.bigquery.access import at_launch
from pipelines.bigquery.names import Dataset, check_columns, check_names, table_id, view_id
from pipelines.bigquery.schema import fields_of, merged
from pipelines.bigquery.views import latest_view
from pipelines.ledger import SCHEMAS
from pipelines.tables import table_of
from schemas import RetriableError

AT_ONCE = 8
"""Tables that are looked at side by side: each costs some requests."""
_ROLES = (
    "grant it roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project"
)
_CONFLICTS = 5


@dataclass(frozen=True)
class Wanted:
    """A table as it shall be."""

    name: str
    schema: pa.Schema
    description: str
    labels: Mapping[str, str] = field(default_factory=dict)


def prepare_dataset(
    client: bigquery.Client, dataset: Dataset, extractors: Iterable[Extractor]
) -> list[str]:
    """Create and evolve the table of each extractor, and the platform's own, with their views.

    Returns:
        A line for each table that was created or changed.

    Raises:
        ConfigurationError: no dataset or no access, or a row class that its table does not fit.
    """
    wanted = [*map(_of_model, sorted(extractors, key=lambda item: item.table))]
    check_names(item.name for item in wanted)
    wanted += [
        Wanted(name, schema, "Kept by Weighbridge itself") for name, schema in SCHEMAS.items()
    ]
    for item in wanted:
        check_columns(item.name, item.schema.names)
    create = f"create it, e.g. `bq mk --dataset {dataset.project}:{dataset.name}`"
    with at_launch(f"--dataset {dataset}", create, _ROLES):
        client.get_dataset(str(dataset))  # a dataset that is not there lists no tables
        present = {item.table_id for item in client.list_tables(str(dataset))}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            lines = pool.map(lambda item: _prepare(client, dataset, item, present), wanted)
            return [line for line in lines if line]


def _of_model(extractor: Extractor) -> Wanted:
    labels = {"model": extractor.model_id, "owner": _label(extractor.settings.owner)}
    return Wanted(
        table_of(extractor).name,
        extractor.shape().schema,
        inspect.cleandoc(vars(extractor.row).get("__doc__") or ""),
        {key: value for key, value in labels.items() if value},
    )


def _label(text: str) -> str:
    """Labels hold small letters, digits, - and _, up to 63."""
    return re.sub(r"[^a-z0-9_-]", "_", text.lower())[:63]


def _prepare(client: bigquery.Client, dataset: Dataset, wanted: Wanted, present: set[str]) -> str:
    fields = fields_of(wanted.name, wanted.schema)
    line = ""
    if table_id(wanted.name) not in present:
        line = _create(client, dataset, wanted, fields)
    if not line:
        line = _evolve(client, dataset, wanted, fields)
    if line or view_id(wanted.name) not in present:
        table = client.get_table(dataset.table(wanted.name))
        columns = [item.name for item in table.schema]
        statement = latest_view(dataset, wanted.name, columns)
        client.query_and_wait(statement, location=table.location)
    return line


def _create(
    client: bigquery.Client,
    dataset: Dataset,
    wanted: Wanted,
    fields: list[bigquery.SchemaField],
) -> str:
    table = bigquery.Table(dataset.table(wanted.name), fields)
    table.time_partitioning = bigquery.TimePartitioning(
        bigquery.TimePartitioningType.DAY, field="event_time"
    )
    if "model_version" in wanted.schema.names:
        table.clustering_fields = ["model_version"]
    table.description = wanted.description or None
    table.labels = dict(wanted.labels)
    try:
        client.create_table(table)
    except google.Conflict:  # another launcher's
        return ""
    return f"created table {wanted.name}"


def _evolve(
    client: bigquery.Client,
    dataset: Dataset,
    wanted: Wanted,
    fields: list[bigquery.SchemaField],
) -> str:
    for _ in range(_CONFLICTS):
        table = client.get_table(dataset.table(wanted.name))
        columns, added = merged(wanted.name, table.schema, fields)
        labels = {**table.labels, **wanted.labels}
        description = wanted.description or table.description
        now = ([item.to_api_repr() for item in table.schema], table.labels, table.description)
        if ([item.to_api_repr() for item in columns], labels, description) == now:
            return ""
        table.schema, table.labels, table.description = columns, labels, description
        try:
            client.update_table(table, ["schema", "labels", "description"])
        except google.PreconditionFailed:
            continue  # another launcher was faster
        return f"changed table {wanted.name}: {', '.join(added) or 'descriptions or labels'}"
    raise RetriableError(f"table {wanted.name} was changed by others again and again")
