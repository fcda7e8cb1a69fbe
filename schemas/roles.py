"""What a column is: the one source for table, validation and Arize schema."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Role:
    """The role of a column. One that belongs to a feature or an embedding is called with its name.

    Args:
        kind: name of the role, also what `weighbridge models` prints.
        of: the feature or embedding it belongs to.
        needs_name: whether `of` must be given.
    """

    kind: str
    of: str | None = None
    needs_name: bool = False

    def __call__(self, of: str = "") -> Role:
        """The role for the feature or embedding `of`; where a role takes none, `Row` refuses it."""
        return dataclasses.replace(self, of=of)

    def __str__(self) -> str:
        name = "".join(part.title() for part in self.kind.split("_"))
        return f'{name}("{self.of}")' if self.of else name


Feature, Tag, TableOnly = Role("feature"), Role("tag"), Role("table_only")
PredictionId, EventTime = Role("prediction_id"), Role("event_time")
ModelVersion = Role("model_version")
PredictionLabel, PredictionScore = Role("prediction_label"), Role("prediction_score")
ActualLabel, ActualScore = Role("actual_label"), Role("actual_score")
GroupId, Rank = Role("group_id"), Role("rank")
RelevanceLabel, RelevanceScore = Role("relevance_label"), Role("relevance_score")
ShapValue = Role("shap_value", needs_name=True)
EmbeddingVector = Role("embedding_vector", needs_name=True)
EmbeddingText = Role("embedding_text", needs_name=True)
EmbeddingLink = Role("embedding_link", needs_name=True)

MANY = frozenset({"feature", "tag", "table_only"})
"""Roles that any number of columns may have; the others belong to one column (a name) each."""
