"""Trains the demo's two models with scikit-learn, as numbers that predict in microseconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, LogisticRegression

from pipelines.demo.flights import WEATHER, FlightData, Weather

CATEGORIES = ("carrier", "origin", "hour")
NUMBERS = ("distance", *WEATHER.values())
LATE_MINUTES = 15
SAMPLE = 60_000
"""Flights to learn from: more make no better model of this few features."""


@dataclass(frozen=True)
class LinearModel:
    """A fitted linear model. What it does not know counts as the average."""

    intercept: float
    categories: Mapping[str, Mapping[Any, float]]
    numbers: Mapping[str, float]
    means: Mapping[str, float]

    def score(self, features: Mapping[str, Any]) -> float:
        """The linear predictor of one flight."""
        total = self.intercept
        for name, weights in self.categories.items():
            total += weights.get(features[name], 0.0)
        for name, weight in self.numbers.items():
            value = features.get(name)
            total += weight * (self.means[name] if value is None else value)
        return total


@dataclass(frozen=True)
class Models:
    """What the service answers with."""

    version: str
    delay: LinearModel
    late: LinearModel

    def delay_minutes(self, features: Mapping[str, Any]) -> float:
        """Expected delay on arrival."""
        return round(self.delay.score(features), 1)

    def late_probability(self, features: Mapping[str, Any]) -> float:
        """How probably the flight departs more than 15 minutes late."""
        return round(1 / (1 + math.exp(-self.late.score(features))), 4)


def features(flight: Mapping[str, Any], weather: Weather | None) -> dict[str, Any]:
    """What the models look at, from one flight of a request and the weather at departure."""
    return {
        "carrier": flight["carrier"],
        "origin": flight["origin"],
        "hour": datetime.fromisoformat(flight["scheduled_departure"]).hour,
        "distance": flight["distance"],
        **(weather or {}),
    }


def train(data: FlightData) -> Models:
    """Fit both models on the months before the traffic; takes seconds."""
    flights = data.training
    late = pc.greater(flights["dep_delay"], LATE_MINUTES)
    return Models(
        version=data.trained_until,
        delay=_fit(LinearRegression(), flights, flights["arr_delay"]),
        late=_fit(LogisticRegression(max_iter=200), flights, late),
    )


def _fit(estimator: Any, flights: pa.Table, target: pa.ChunkedArray) -> LinearModel:
    # Cancelled flights have no delay to learn.
    known = flights.append_column("target", target).filter(target.is_valid())
    known = known.take(np.arange(0, len(known), max(1, len(known) // SAMPLE)))
    columns: list[NDArray[np.float64]] = []
    meanings: list[tuple[str, Any]] = []
    for name in CATEGORIES:
        column = known[name].to_numpy()
        for value in np.unique(column).tolist():
            columns.append((column == value).astype(float))
            meanings.append((name, value))
    means, scales = {}, {}
    for name in NUMBERS:
        means[name] = pc.mean(known[name]).as_py()
        column = known[name].cast(pa.float64()).fill_null(means[name]).to_numpy()
        scales[name] = float(column.std())
        # The logistic regression converges slowly on columns of different scales.
        columns.append((column - means[name]) / scales[name])
    estimator.fit(np.column_stack(columns), known["target"].to_numpy())
    weights = iter(np.ravel(estimator.coef_).tolist())
    categories: dict[str, dict[Any, float]] = {name: {} for name in CATEGORIES}
    for name, value in meanings:
        categories[name][value] = next(weights)
    numbers = {name: next(weights) / scales[name] for name in NUMBERS}
    centre = sum(weight * means[name] for name, weight in numbers.items())
    intercept = float(np.ravel(estimator.intercept_)[0]) - centre
    return LinearModel(intercept, categories, numbers, means)
