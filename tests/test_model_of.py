from typing import Any

import pytest
from conversation import scope

from weighbridge.model_of import Model, first_of, from_header, from_path, model_id_of


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models/fraud:predict", Model("fraud")),
        ("/v2/models/fraud/infer", Model("fraud")),
        ("/v2/models/fraud/versions/7/infer", Model("fraud", "7")),
        ("/v1/models/a:b:predict", Model("a:b")),
        ("/v1/models/fraud:explain", None),
        ("/v1/models/:predict", None),
        ("/v1/models/a/b:predict", None),
        ("/v2/models/fraud/infer/", None),
        ("/v2/models/fraud/ready", None),
        ("/", None),
    ],
)
def test_paths_of_the_inference_protocols(path: str, model: Model | None) -> None:
    assert from_path()(scope(path)) == model


def test_paths_of_a_service() -> None:
    of = from_path("/{tenant}/score/{model}", "/a.b/{model}@{version}")
    assert of(scope("/acme/score/churn")) == Model("churn")
    assert of(scope("/a.b/churn@2")) == Model("churn", "2")
    assert of(scope("/aXb/churn@2")) is None
    assert of(scope("/v1/models/fraud:predict")) is None
    fixed = from_path("/predict", "/{model}/predict", model="churn")
    assert fixed(scope("/predict")) == Model("churn")
    assert fixed(scope("/fraud/predict")) == Model("fraud")
    assert fixed(scope("/health")) is None


@pytest.mark.parametrize("path", ["/api/predict/m", "/predict/m"])
def test_a_path_below_a_root(path: str) -> None:
    assert from_path("/predict/{model}")(scope(path, root_path="/api")) == Model("m")


def test_the_whole_path_of_a_mounted_app() -> None:
    of = from_path("/api/predict/{model}")
    assert of(scope("/api/predict/m", root_path="/api")) == Model("m")


def test_a_path_that_names_no_model() -> None:
    with pytest.raises(ValueError, match=r"^/predict has no {model}, and model= is not given"):
        from_path("/v1/{model}", "/predict")


def test_headers() -> None:
    of = from_header("X-Model-Id")
    assert of(scope(headers=[(b"a", b"b"), (b"x-model-id", b"churn")])) == "churn"
    assert of(scope(headers=[(b"x-model-id", b"")])) is None
    assert of(scope()) is None


def test_the_first_that_says_something() -> None:
    def none(scope: Any) -> None:
        return None

    of = first_of(none, from_header("x-model"), from_path())
    named = scope("/v2/models/b/infer", headers=[(b"x-model", b"a")])
    assert of(named) == "a"
    assert of(scope("/v2/models/b/infer")) == Model("b")
    assert of(scope("/")) is None


@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        ("flight-delay_2", "flight-delay_2"),
        ("Fraud.v2", "fraud-v2"),
        ("org/Model Name", "org-model-name"),
        ("0", "0"),
        ("a" * 63, "a" * 63),
        # No id comes of these.
        ("a" * 64, "a" * 64),
        ("_private", "_private"),
        ("Ärger", "Ärger"),
        ("", ""),
        ("a\n", "a-"),
    ],
)
def test_names_that_are_no_ids(name: str, model_id: str) -> None:
    assert model_id_of(name) == model_id
