"""Tells a disk that takes no more from all else that fails, and says what to do about it."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from schemas import RetriableError


class Want(Enum):
    """What is wanting, and its remedy."""

    SPACE = "the disk is full", "Free some space"
    QUOTA = "its quota on the disk is used up", "Free some space"
    LIMIT = "a file would be larger than this process may write", "Raise that limit (ulimit -f)"

    def __init__(self, what: str, remedy: str) -> None:
        self.what = what
        self.remedy = remedy


_ERRORS = {errno.ENOSPC: Want.SPACE, errno.EDQUOT: Want.QUOTA, errno.EFBIG: Want.LIMIT}
# SQLite tells a full disk from other reasons not to write; of those a limit is the usual one.
_SQLITE = {sqlite3.SQLITE_FULL: Want.SPACE, sqlite3.SQLITE_IOERR_WRITE: Want.LIMIT}


class NoRoomError(RetriableError):
    """Something could not be written, for want of room; what was written before is whole.

    Attributes:
        want: what is wanting.
        where: what was written to.
    """

    def __init__(self, want: Want, where: str = "a file") -> None:
        super().__init__(want, where)
        self.want, self.where = want, where

    def __str__(self) -> str:
        """The cause, the place and the remedy."""
        return (
            f"{self.where} could not be written: {self.want.what}. {self.want.remedy} and run it "
            "again: it adds what is missing; nothing is lost, and no table holds a row twice"
        )


def want_of_room(error: BaseException | None) -> Want | None:
    """What is wanting, if that is behind an error: Beam and SQLAlchemy wrap those that say so."""
    while error is not None:
        found = None
        if isinstance(error, NoRoomError):
            found = error.want
        elif isinstance(error, OSError):
            found = _ERRORS.get(error.errno or 0)
        elif isinstance(error, sqlite3.Error):
            found = _SQLITE.get(getattr(error, "sqlite_errorcode", 0))
        if found:
            return found
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def needing_room(where: object) -> Iterator[None]:
    """Name what was written to, whatever error a disk that takes no more is behind.

    Args:
        where: the home.

    Raises:
        NoRoomError: a disk takes no more.
    """
    try:
        yield
    except Exception as error:
        want = want_of_room(error)
        if want is None:
            raise
        raise NoRoomError(want, str(where)) from None


def says_more(record: logging.LogRecord) -> bool:
    """A filter for Beam's log, which shows a traceback of what will be one line."""
    return not (record.exc_info and want_of_room(record.exc_info[1]))
