"""What can go wrong, sorted by what happens next.

* PipelineError
  x ConfigurationError        stops the launch, before any worker starts
    + DuplicateModelIdError   two extractors for one model id and kind, or one table name
    + InvalidExtractorError   a module, row class or signature that cannot be used
  x RetriableError            the bundle fails and the runner retries it
* RecordError                 this record becomes a dead letter, the pipeline goes on
  x DecodeError               stage "decode"
  x RouteError                stage "route": model id missing or malformed
  x ExtractError              stage "extract": whatever the extractor raised or gave
  x RowValidationError        stage "validate": the row class or Arize's row rules refuse

`RecordError` and `DecodeError` are weighbridge's, as envelopes raise them in a model service too.
"""

from weighbridge import DecodeError, RecordError

__all__ = [
    "ConfigurationError",
    "DecodeError",
    "DuplicateModelIdError",
    "ExtractError",
    "InvalidExtractorError",
    "PipelineError",
    "RecordError",
    "RetriableError",
    "RouteError",
    "RowValidationError",
]


class PipelineError(Exception):
    """Base of what is not the fault of one record."""


class ConfigurationError(PipelineError):
    """The launch stops; the message says what to change."""


class DuplicateModelIdError(ConfigurationError):
    """Two extractors claim the same model id and kind, or the same table."""


class InvalidExtractorError(ConfigurationError):
    """An extractor module, row class or signature cannot be used."""


class RetriableError(PipelineError):
    """A passing fault outside: the bundle fails and is retried."""


class RouteError(RecordError):
    """The model id is missing or malformed."""

    stage = "route"


class ExtractError(RecordError):
    """The extractor raised, or gave something that is no list of rows, or took too long."""

    stage = "extract"


class RowValidationError(RecordError):
    """The row class, the uniqueness of prediction ids or one of Arize's row rules refuses a row."""

    stage = "validate"
