"""What the installed SDK's own validator says of rows, without sending them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from arize.ml.batch_validation.validator import Validator
from arize.ml.types import Environments, ModelTypes
from arize.utils.dataframe import remove_extraneous_columns

from pipelines.arize import _MODEL_TYPES
from pipelines.frames import data_frame, sdk_schema, sent_columns, time_column
from schemas.columns import Column


def sdk_refusal(
    rows: pa.Table, columns: Sequence[Column], model_type: Any, kind: str = "prediction"
) -> str:
    """Names of the errors of `ml.log`'s four passes, of the first that fails; "" if it takes them.

    An error that the validator raises, where it breaks on values, counts as one of them.
    """
    sent = sent_columns(columns)
    named = time_column(columns)
    time = named if kind == "prediction" or named != "event_time" else None
    frame, schema = data_frame(rows, sent, time), sdk_schema(rows, sent, model_type, time)
    sdk_type, environment = ModelTypes[_MODEL_TYPES[model_type]], Environments.PRODUCTION
    given = {"model_id": "m", "schema": schema, "model_version": "v", "batch_id": ""}
    try:
        errors = Validator.validate_required_checks(
            dataframe=frame, environment=environment, **given
        )
        errors = errors or Validator.validate_params(
            dataframe=frame,
            environment=environment,
            model_type=sdk_type,
            metric_families=None,
            **given,
        )
        frame = remove_extraneous_columns(df=frame, schema=schema)
        arrow = pa.Table.from_pandas(frame, preserve_index=False).schema
        errors = errors or Validator.validate_types(
            model_type=sdk_type, schema=schema, pyarrow_schema=arrow
        )
        errors = errors or Validator.validate_values(
            dataframe=frame,
            environment=environment,
            schema=schema,
            model_type=sdk_type,
            max_past_years=5,
        )
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        return type(error).__name__
    return ", ".join(sorted({type(error).__name__ for error in errors}))
