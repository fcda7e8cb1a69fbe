"""The model `scores` with an extractor whose scores are half as high."""

from collections.abc import Iterator

from odd.scores import Scored, _values

from extractors import Envelope, extractor


@extractor("scores", row=Scored, model_type="binary")
def extract(envelope: Envelope) -> Iterator[Scored]:
    for values in _values(envelope):
        yield Scored(**{**values, "score": values["score"] / 2})
