"""Settings of models by environment, over those beside their code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

import click
from pydantic import ValidationError

from pipelines.config.file import Section, Value, kind, quoted
from pipelines.units import timespan
from schemas.errors import ConfigurationError
from schemas.settings import ModelSettings

if TYPE_CHECKING:
    from extractors import Extractor, Extractors


def model_values(section: Section) -> dict[str, Value]:
    """The settings in `[models.ID]`, checked one by one.

    Raises:
        ConfigurationError: a setting that there is not, or a value that it does not take.
    """
    found = {}
    for key, value in section.table.items():
        section.known(key, ModelSettings.model_fields, "setting of a model")
        found[key] = Value(_setting(key, value, section), section.where)
    return found


def configured(
    extractors: Extractors, models: Mapping[str, Mapping[str, Value]], some_left_out: bool = False
) -> Extractors:
    """The extractors with these settings, of predictions and of actuals.

    Args:
        extractors: what `load_extractors` gave.
        models: settings by model id.
        some_left_out: whether a model that is not among them may have been left out on purpose.

    Raises:
        ConfigurationError: a model that is not registered, or settings that it cannot have.
    """
    if not models:
        return extractors
    ids = sorted({model_id for model_id, _ in extractors})
    for model_id, values in models.items():
        where = next((value.where for value in values.values()), "")
        if model_id not in ids and where and not some_left_out:
            raise ConfigurationError(f"{where}: {_unregistered(model_id, ids)}")
    return MappingProxyType(
        {
            key: _with(extractor, models.get(extractor.model_id, {}))
            for key, extractor in extractors.items()
        }
    )


def _with(extractor: Extractor, values: Mapping[str, Value]) -> Extractor:
    from schemas.arize import check_settings  # imports PyArrow

    if not values:
        return extractor
    own = {name: value.value for name, value in values.items()}
    where = ", ".join(sorted({value.where for value in values.values()}))
    try:
        settings = ModelSettings.model_validate({**dict(extractor.settings), **own}, strict=True)
        check_settings(settings, extractor.model_type)
    except ValidationError as error:  # of settings that do not go together
        said = error.errors(include_input=False, include_url=False)[0]["msg"]
        raise ConfigurationError(f"{where}: {said}") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    return replace(extractor, settings=settings)


def _setting(key: str, value: Any, section: Section) -> Any:
    if timedelta in (field := ModelSettings.model_fields[key].annotation, *get_args(field)):
        if not isinstance(value, str):
            raise section.wrong(f'{key} takes text such as "5s", and not {kind(value)}')
        try:
            value = timespan(value)
        except click.BadParameter as error:
            raise section.wrong(f"{key}: {error.message}") from None
    try:
        ModelSettings.model_validate({key: value}, strict=True)
    except ValidationError as error:
        said = error.errors(include_input=False, include_url=False)[0]["msg"]
        raise section.wrong(f"{key}, which is {kind(section.table[key])}: {said}") from None
    return value


def _unregistered(model_id: str, ids: list[str]) -> str:
    near = get_close_matches(model_id, ids, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(ids)}"
    return f"no model {quoted(model_id)} is registered; {hint}"
