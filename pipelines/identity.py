"""What makes two stored messages one."""

from __future__ import annotations

from hashlib import blake2b

from weighbridge.archive import Message

IDENTITY_BYTES = 16


def identity(message: Message) -> bytes:
    """16 bytes: the same for the same bytes of the same message that failed for the same cause."""
    digest = blake2b(digest_size=IDENTITY_BYTES)
    fingerprint = message.attributes.get("failure_fingerprint", "")
    model_id = message.attributes.get("model_id", "")
    parts = (message.message_id, model_id, fingerprint)
    for part in (*(part.encode() for part in parts), message.data):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()
