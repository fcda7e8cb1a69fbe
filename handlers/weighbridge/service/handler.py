"""What a data scientist fills in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class BadRequestError(Exception):
    """The request cannot be answered; the caller gets status 400 and the text."""


@dataclass(frozen=True)
class Answer:
    """A response, and what else is to be known of it.

    Args:
        response: what the caller gets, as JSON.
        context: what the model used beyond the request, or said beyond the response, as JSON. It
            goes into the envelope, and never to the caller.
        sampling_key: what sampling is sticky by, such as a customer's id, so that whoever labels
            keeps the same ones.
    """

    response: Any
    context: Mapping[str, Any] = field(default_factory=dict)
    sampling_key: str | None = None


class ModelHandler(ABC):
    """A model behind a service: derive from it, and name the class in `WEIGHBRIDGE_HANDLER`.

    One object serves all requests. Either method may be `async`; otherwise it runs in a thread, so
    that `predict` is called by several threads at once.
    """

    model_version: str = ""
    """The version of what answers; `load` may set it. The setting of the same name wins."""

    def load(self) -> Any:  # noqa: B027 -- a model may have nothing to load
        """Load the model. Called once; the service is not ready before it has returned."""

    @abstractmethod
    def predict(self, request: Any) -> Any:
        """Answer one request.

        Args:
            request: the body of the request, parsed from JSON.

        Returns:
            What the caller gets, as JSON; or an `Answer`, which says more.

        Raises:
            BadRequestError: the request is JSON, but none that can be answered.
        """
