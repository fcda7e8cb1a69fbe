"""The model `scores` with an extractor that copes with scores above 1."""

from collections.abc import Iterator

from odd.scores import Scored, _values

from extractors import Envelope, extractor


@extractor("scores", row=Scored, model_type="binary")
def extract(envelope: Envelope) -> Iterator[Scored]:
    for values in _values(envelope):
        yield Scored(**{**values, "score": min(values["score"], 1.0)})
