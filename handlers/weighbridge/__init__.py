"""Weighbridge in a model service: capture raw envelopes and hand them on, off the request path."""

from weighbridge.asgi import CaptureMiddleware
from weighbridge.attached import attach, describe
from weighbridge.captured import KEPT_HEADERS
from weighbridge.counts import Stats
from weighbridge.envelope import Envelope, Origin
from weighbridge.errors import DecodeError, RecordError
from weighbridge.publisher import EnvelopePublisher

__all__ = [
    "KEPT_HEADERS",
    "CaptureMiddleware",
    "DecodeError",
    "Envelope",
    "EnvelopePublisher",
    "Origin",
    "RecordError",
    "Stats",
    "attach",
    "describe",
]
__version__ = "0.1.0"
