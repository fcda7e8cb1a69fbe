"""Weighbridge in a model service: capture raw envelopes and hand them on, off the request path."""

from weighbridge.envelope import Envelope, Origin
from weighbridge.errors import DecodeError, RecordError
from weighbridge.publisher import EnvelopePublisher, Stats

__all__ = ["DecodeError", "Envelope", "EnvelopePublisher", "Origin", "RecordError", "Stats"]
__version__ = "0.1.0"
