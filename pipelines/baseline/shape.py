"""The columns of a training or validation set: those of predictions, and what turned out true."""

from __future__ import annotations

from dataclasses import dataclass, replace

from extractors import Extractor, Extractors
from schemas import ConfigurationError
from schemas.columns import Column, columns_of

ACTUALS = frozenset({"actual_label", "actual_score", "relevance_label", "relevance_score"})
SUFFIX = "_actual"


@dataclass(frozen=True)
class BaselineShape:
    """Which columns a row has, of two row classes.

    Attributes:
        predictions: the extractor of predictions.
        columns: its columns.
        actuals: the extractor of actuals; None where predictions bring theirs.
        truths: columns of actuals, named as a row of the set names them.
        sources: their names in the row class of actuals.
    """

    predictions: Extractor
    columns: tuple[Column, ...]
    actuals: Extractor | None
    truths: tuple[Column, ...]
    sources: tuple[str, ...]

    @classmethod
    def of(cls, extractors: Extractors, model_id: str) -> BaselineShape:
        """The shape of a model's sets. A name that both classes have gets `_actual` for actuals.

        Raises:
            ConfigurationError: nothing says what turned out true.
        """
        predictions = extractors[model_id, "prediction"]
        columns = columns_of(predictions.row)
        if any(column.role.kind in ACTUALS for column in columns):
            return cls(predictions, columns, None, (), ())
        actuals = extractors.get((model_id, "actual"))
        if actuals is None:
            raise ConfigurationError(
                f'{model_id}: a baseline needs actuals, and no extractor has kind="actual"; '
                "register one, or give the row class a column with an actual role"
            )
        found = [c for c in columns_of(actuals.row) if c.role.kind in ACTUALS]
        names = {column.name for column in columns}
        truths = [
            replace(column, name=f"{column.name}{SUFFIX}") if column.name in names else column
            for column in found
        ]
        return cls(predictions, columns, actuals, tuple(truths), tuple(c.name for c in found))

    @property
    def sent(self) -> tuple[Column, ...]:
        """All columns of a row."""
        return (*self.columns, *self.truths)
