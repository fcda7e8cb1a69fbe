"""bqemulator 1.4, made to do what the service's documentation says where our loads depend on it.

- It needs no network (DuckDB's extensions stay out).
- A load job whose id is taken answers 409; stock, it runs again.
- A load job is answered and listed as running first; stock, it is done by then.
- Columns of Parquet files are matched by name, and a load with a missing file adds nothing.
- A reserved word as a name is refused.
- A column that is added to a table is there; a change that the service refuses is refused.
- PUT /faults: reasons for which the next load jobs fail, how often a job is still running when it
  is asked for, or the status and reason with which every request is refused.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from bqemulator import cli, server
from bqemulator.api.routes import jobs, tables
from bqemulator.domain.errors import (
    InvalidQueryError,
    ResourceRef,
    ValidationError,
    resource_already_exists,
)
from bqemulator.jobs import executor
from bqemulator.storage.engine import DuckDBEngine
from bqemulator.storage.sql_identifiers import quoted_table_ref
from bqemulator.storage.type_map import bq_schema_to_duckdb_columns
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlglot.dialects.bigquery import BigQuery

faults: dict[str, Any] = {"failures": [], "polls": 0, "refusal": None}
running: dict[str, int] = {}
engines: list[Any] = []

for part in ("_load_spatial", "_load_format_extensions"):
    setattr(DuckDBEngine, part, lambda self: None)


def load_parquet(path: str, target: str, context: Any) -> None:
    source = "read_parquet(?, hive_partitioning = false)"
    context.engine.execute(f"INSERT INTO {target} BY NAME SELECT * FROM {source}", [path])


executor._LOAD_FORMAT_HANDLERS["PARQUET"] = load_parquet

run_load = jobs._handle_load_job_with_async_envelope


async def load(project: str, job_id: str, config: dict[str, Any], context: Any) -> Any:
    if context.catalog.get_job(project, job_id) is not None:
        raise resource_already_exists(ResourceRef("job", project, resource_id=job_id))
    running[job_id] = 1 + faults["polls"]
    uris = config["load"]["sourceUris"]
    missing = [uri for uri in uris if not os.path.exists(executor._resolve_uri(uri, context))]
    # Tables are loaded side by side: a fault is for those that the tests look at.
    meant = faults["failures"] if "-weighbridge_" not in job_id else []
    reason = meant.pop(0) if meant else missing and "notFound"
    if not reason:
        return await run_load(project, job_id, config, context)
    return jobs._failed_job_meta(
        project_id=project,
        job_id=job_id,
        job_type="LOAD",
        config=config,
        error_result={"reason": reason, "message": "secret value 4711"},
        now=context.clock.now(),
    )


jobs._handle_load_job_with_async_envelope = load

run_query = jobs.execute_query_job
RESERVED = BigQuery.Generator.RESERVED_KEYWORDS


async def query(project: str, job_id: str, sql: str, *more: Any, **named: Any) -> Any:
    for name in re.findall(r"\bAS\s+([A-Za-z]\w*)", re.sub(r"'[^']*'|--.*", "", sql)):
        if name in RESERVED:  # in capitals it is meant as one
            raise InvalidQueryError(f"{name} is reserved")
    return await run_query(project, job_id, sql, *more, **named)


jobs.execute_query_job = query

answer_job = jobs._build_job_response


def job_response(project: str, job_id: str, meta: Any, config: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer_job(project, job_id, meta, config)
    if running.get(job_id):
        running[job_id] -= 1
        found["status"] = {"state": "RUNNING"}
    return found


jobs._build_job_response = job_response


def list_running(context: Any) -> None:
    """A list of jobs has those as running that are answered as running."""
    listed = context.catalog.list_jobs

    def list_jobs(project: str, *, state_filter: Any = None, max_results: int = 100) -> Any:
        found = listed(project, max_results=sys.maxsize)
        for job in found:
            state = "RUNNING" if running.get(job.job_id) else job.state
            if state_filter in (None, state) and max_results > 0:
                max_results -= 1
                yield job.model_copy(update={"state": state})

    context.catalog.list_jobs = lambda *args, **more: tuple(list_jobs(*args, **more))


table_meta = tables._rest_to_table_meta


def changed_table(project: str, dataset: str, body: Any, clock: Any, existing: Any = None) -> Any:
    meta = table_meta(project, dataset, body, clock, existing)
    if existing is not None and existing.table_type == "TABLE":
        reference = quoted_table_ref(project, dataset, existing.table_id)
        for name, kind in added(existing.schema_.fields, meta.schema_.fields):
            engines[0].execute(f"ALTER TABLE {reference} ADD COLUMN {name} {kind}")
    return meta


def added(old: Any, new: Any, within: str = "") -> Any:
    by_name = {field.name: field for field in new}
    for field in old:
        now = by_name.pop(field.name, None)
        if now is None:
            raise ValidationError(f"Field {field.name} is missing in new schema")
        relaxed = (field.mode, now.mode) == ("REQUIRED", "NULLABLE")
        if now.type != field.type or (now.mode != field.mode and not relaxed):
            raise ValidationError(f"Field {field.name} has changed type")
        inner = '"element".' if field.mode == "REPEATED" else ""
        yield from added(field.fields, now.fields, f'{within}"{field.name}".{inner}')
    for field in by_name.values():
        if field.mode == "REQUIRED":
            raise ValidationError("Cannot add required fields to an existing schema")
        [[_, kind]] = bq_schema_to_duckdb_columns([tables._field_to_rest(field)])
        yield f'{within}"{field.name}"', kind


tables._rest_to_table_meta = changed_table

create_app = server.create_app


def patched_app(context: Any) -> FastAPI:
    engines[:] = [context.engine]
    list_running(context)
    app: FastAPI = create_app(context)

    @app.put("/faults")
    async def set_faults(request: Request) -> dict[str, Any]:
        faults.update(await request.json())
        return faults

    @app.middleware("http")
    async def refuse(request: Request, call_next: Any) -> Any:
        if faults["refusal"] is None or request.url.path == "/faults":
            return await call_next(request)
        status, reason = faults["refusal"]
        error = {"code": status, "message": "secret", "errors": [{"reason": reason}]}
        return JSONResponse({"error": error}, status)

    # The last route added would be behind one that takes every path.
    app.router.routes.insert(0, app.router.routes.pop())
    return app


server.create_app = patched_app
sys.exit(cli.main())
