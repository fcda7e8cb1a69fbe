"""What is true of a model everywhere, kept beside its code."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ModelSettings(BaseModel):
    """Settings of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    owner: str = ""
    """who is told: a team address"""
    arize: Literal["push", "off"] = "push"
    """whether rows go to Arize; tables get them anyhow"""
    arize_space: str = ""
    """name of the Arize space, "" for the default; `risk` is looked up as ARIZE_SPACE_ID_RISK"""
    arize_sample_rate: float = Field(default=1.0, gt=0, le=1)
    """share of predictions pushed, always the same ones; tables get all"""
    arize_sample_by: Literal["envelope", "group", "prediction"] | None = None
    """what is left out as a whole: the rows of an envelope, of a ranking model those of a group;
    actuals only by "prediction", else they all go, lest a prediction that is there lack its own"""
    arize_batch_rows: int = Field(default=50_000, ge=1)
    """most rows of one upload to Arize"""
    max_rows_per_envelope: int = Field(default=10_000, ge=1)
    """an envelope that gives more rows is a dead letter"""
    timeout: timedelta = Field(default=timedelta(seconds=5), gt=timedelta(0))
    """longest time that the extractor may take for one envelope"""
    retention: timedelta | None = Field(default=None, ge=timedelta(days=1))
    """how long rows stay in its table, by event time; None for ever"""
    max_row_bytes: int = Field(default=4 << 20, ge=1)
    """an envelope with a row of more bytes, as Arrow counts them, is a dead letter"""
    quarantine_failures: float = Field(default=0.9, ge=0, le=1)
    """on a stream, a model of which more than this share of envelopes fail is quarantined"""
    quarantine_time: timedelta = Field(default=timedelta(milliseconds=200), gt=timedelta(0))
    """and one whose envelopes take longer than this in the mean, or most of its `timeout`"""
    quarantine_for: timedelta = Field(default=timedelta(minutes=5), gt=timedelta(0))
    """how long until a sample is tried; doubled each time that fails, up to a day"""
