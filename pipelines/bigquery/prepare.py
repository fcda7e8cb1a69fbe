"""Creates and evolves the tables of a dataset, and the views over them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b

import google.cloud.bigquery as bigquery
import pyarrow as pa
from google.api_core import exceptions as google

from extractors import Extractor
from pipelines.bigquery.access import dataset_needed
from pipelines.bigquery.names import (
    Dataset,
    check_columns,
    check_names,
    joined_id,
    table_id,
    view_id,
)
from pipelines.bigquery.schema import fields_of, merged
from pipelines.bigquery.views import Version, columns_of_view, joined_view, latest_view
from pipelines.evolution import refusal, taken
from pipelines.ledger import SCHEMAS
from pipelines.tables import tables_of
from schemas import ConfigurationError, RetriableError

AT_ONCE = 8
"""Tables that are looked at side by side: each costs some requests."""
_CONFLICTS = 5


@dataclass(frozen=True)
class Wanted:
    """A table as it shall be.

    Attributes:
        versions: full names of the table in each version, itself the last.
        extractor: whose table it is, None for the platform's own.
    """

    versions: list[str]
    schema: pa.Schema
    description: str
    labels: Mapping[str, str] = field(default_factory=dict)
    extractor: Extractor | None = None

    @property
    def name(self) -> str:
        """Full name of the table."""
        return self.versions[-1]

    def refusal(self, column: str, old: str, new: str | None) -> ConfigurationError:
        """The error for a column that the table has otherwise."""
        return refusal(self.name, column, old, new, self.extractor)


@dataclass
class _Prepared:
    wanted: Wanted
    line: str
    table: bigquery.Table
    earlier: list[Version]

    @property
    def versions(self) -> list[Version]:
        return [Version(self.wanted.name, self.table.schema), *self.earlier]


class _Launch:
    """Makes the tables and views of a dataset what they shall be."""

    def __init__(self, client: bigquery.Client, dataset: Dataset) -> None:
        self._client = client
        self._dataset = dataset
        client.get_dataset(str(dataset))  # a dataset that is not there lists no tables
        self._present = {item.table_id for item in client.list_tables(str(dataset))}

    def prepare(self, wanted: Wanted) -> _Prepared:
        """Create or evolve a table."""
        fields = fields_of(wanted.name, wanted.schema)
        line = ""
        if table_id(wanted.name) not in self._present:
            line = _create(self._client, self._dataset, wanted, fields)
        table, changed = _evolve(self._client, self._dataset, wanted, fields)
        return _Prepared(wanted, line or changed, table, self._earlier(wanted))

    def show(self, item: _Prepared) -> None:
        """Make the view that shows each row once."""
        first = item.wanted.versions[0]
        statement = latest_view(self._dataset, first, item.versions)
        self._make(item, view_id(first), statement, "weighbridge_latest")

    def join(self, predictions: _Prepared, actuals: _Prepared) -> None:
        """Make the view that shows predictions with their actuals."""
        first, of_actuals = predictions.wanted.versions[0], actuals.wanted.versions[0]
        columns = columns_of_view(predictions.versions)
        others = columns_of_view(actuals.versions)
        statement = joined_view(self._dataset, first, columns, of_actuals, others)
        self._make(predictions, joined_id(first), statement, "weighbridge_joined")

    def _earlier(self, wanted: Wanted) -> list[Version]:
        """Earlier versions that are there, the latest one first."""
        found = []
        for name in reversed(wanted.versions[:-1]):
            if table_id(name) in self._present:
                table = self._client.get_table(self._dataset.table(name))
                if table.labels.get("model") == wanted.labels["model"]:
                    found.append(Version(name, table.schema))
        return found

    def _make(self, item: _Prepared, view: str, statement: str, label: str) -> None:
        # By a label of the table: a launch that was killed in between is made up for by the next.
        digest = blake2b(statement.encode(), digest_size=8).hexdigest()
        if view in self._present and item.table.labels.get(label) == digest:
            return
        self._client.query_and_wait(statement, location=item.table.location)
        item.table.labels = {**item.table.labels, label: digest}
        try:
            item.table = self._client.update_table(item.table, ["labels"])
        except google.PreconditionFailed:  # another launcher's; the next launch looks again
            item.table = self._client.get_table(item.table.reference)


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
    check_names(item.versions for item in wanted)
    wanted += [
        Wanted([name], schema, "Kept by Weighbridge itself") for name, schema in SCHEMAS.items()
    ]
    for item in wanted:
        check_columns(item.name, item.schema.names)
    with dataset_needed(dataset):
        launch = _Launch(client, dataset)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            prepared = list(pool.map(launch.prepare, wanted))
            list(pool.map(launch.show, prepared))  # what is joined are these views
            list(pool.map(lambda pair: launch.join(*pair), _pairs(prepared)))
    return [item.line for item in prepared if item.line]


def _pairs(prepared: Iterable[_Prepared]) -> list[tuple[_Prepared, _Prepared]]:
    """Tables of predictions and of their actuals."""
    found = {
        (item.wanted.extractor.model_id, item.wanted.extractor.kind): item
        for item in prepared
        if item.wanted.extractor is not None
    }
    return [
        (found[model, "prediction"], item)
        for (model, kind), item in found.items()
        if kind == "actual" and (model, "prediction") in found
    ]


def _of_model(extractor: Extractor) -> Wanted:
    labels = {"model": extractor.model_id, "owner": _label(extractor.settings.owner)}
    return Wanted(
        tables_of(extractor),
        extractor.shape().schema,
        inspect.cleandoc(vars(extractor.row).get("__doc__") or ""),
        {key: value for key, value in labels.items() if value},
        extractor,
    )


def _label(text: str) -> str:
    """Labels hold small letters, digits, - and _, up to 63."""
    return re.sub(r"[^a-z0-9_-]", "_", text.lower())[:63]


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
) -> tuple[bigquery.Table, str]:
    for _ in range(_CONFLICTS):
        table = client.get_table(dataset.table(wanted.name))
        if wanted.extractor is not None:
            owner = table.labels.get("model", wanted.extractor.model_id)
            if owner != wanted.extractor.model_id:
                raise taken(wanted.name, owner, wanted.extractor)
        columns, said = merged(table.schema, fields, wanted.refusal)
        labels = {**table.labels, **wanted.labels}
        description = wanted.description or table.description
        now = ([item.to_api_repr() for item in table.schema], table.labels, table.description)
        if ([item.to_api_repr() for item in columns], labels, description) == now:
            return table, ""
        table.schema, table.labels, table.description = columns, labels, description
        try:
            table = client.update_table(table, ["schema", "labels", "description"])
        except google.PreconditionFailed:
            continue  # another launcher was faster
        return table, f"changed table {wanted.name}: {', '.join(said) or 'descriptions or labels'}"
    raise RetriableError(f"table {wanted.name} was changed by others again and again")
