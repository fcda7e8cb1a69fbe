"""Folders: on this machine as paths, on an object store by their address."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_ADDRESS = re.compile(r"(gs|s3)://[a-z0-9][a-z0-9._-]+[a-z0-9](/[^?#*\[\]]*)?")


@dataclass(frozen=True)
class Address:
    """A folder on an object store, such as gs://bucket/prefix. `/` leads below it, as with a path.

    Args:
        text: scheme, bucket, and a prefix if there is one.
    """

    text: str

    def __truediv__(self, name: str) -> Address:
        return Address(f"{self.text}/{name}")

    def __str__(self) -> str:
        return self.text


Folder = Path | Address


def folder_of(text: str) -> Folder:
    """The folder that a text names.

    Raises:
        ValueError: it is empty, or has a scheme and is no address of a bucket.
    """
    if not text.strip():  # as of a variable that is not set; it would be the folder one is in
        raise ValueError("an empty text names no folder; write . for the one that you are in")
    if "://" not in text:
        return Path(text)
    if not _ADDRESS.fullmatch(text):
        raise ValueError(f"{text} is neither a path nor of the form gs://BUCKET/PREFIX or s3://…")
    return Address(text.rstrip("/"))


def local_path(location: str) -> str:
    """The path behind a file:// location; other addresses stay what they are."""
    return re.sub("^file:(//)?", "", location)


def location_of(path: str) -> str:
    """The inverse of `local_path`."""
    return path if "://" in path else f"file://{path}"


def absolute(path: str) -> str:
    """The same file for processes that are started in another folder."""
    return path if "://" in path else os.path.abspath(path)


def is_path(location: str) -> bool:
    """Whether a location is on this machine."""
    return "://" not in local_path(location)
