"""The model `scores` with an extractor that refuses scores above a half."""

from collections.abc import Iterator

from odd.scores import Scored, _values

from extractors import Envelope, extractor


@extractor("scores", row=Scored, model_type="binary")
def extract(envelope: Envelope) -> Iterator[Scored]:
    for values in _values(envelope):
        assert values["score"] <= 0.5
        yield Scored(**values)
