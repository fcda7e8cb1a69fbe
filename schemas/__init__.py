"""Row classes, what their columns mean, and everything that follows from them."""

from schemas.errors import (
    ConfigurationError,
    DecodeError,
    DuplicateModelIdError,
    ExtractError,
    InvalidExtractorError,
    PipelineError,
    RecordError,
    RetriableError,
    RouteError,
    RowValidationError,
)
from schemas.failure import Failure, Stage
from schemas.roles import Role
from schemas.row import ClassScores, NanAsNull, Row, Timestamp
from schemas.settings import ModelSettings
from weighbridge import Envelope

__all__ = [
    "ClassScores",
    "ConfigurationError",
    "DecodeError",
    "DuplicateModelIdError",
    "Envelope",
    "ExtractError",
    "Failure",
    "InvalidExtractorError",
    "ModelSettings",
    "NanAsNull",
    "PipelineError",
    "RecordError",
    "RetriableError",
    "Role",
    "RouteError",
    "Row",
    "RowValidationError",
    "Stage",
    "Timestamp",
]
