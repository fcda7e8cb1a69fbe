"""The model, and the service around it, as a caller and the pipeline see them."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from weighbridge.archive import read_archive
from weighbridge.service import Answer, BadRequestError, create_app
from weighbridge.wire import unpack

from wine_cultivar.handler import WineCultivar
from wine_cultivar.train import PATH, train, version_of

BAROLO = {"alcohol": 14.2, "malic_acid": 1.7, "color_intensity": 5.6, "hue": 1.04, "proline": 1065}
OTHER = {"alcohol": 12.1, "malic_acid": 1.3, "color_intensity": 2.6, "hue": 1.2, "proline": 500}


@pytest.fixture(scope="module", autouse=True)
def trained() -> None:
    """Train as the image does."""
    if not PATH.exists():
        train()


def test_wines_are_told_apart() -> None:
    """And the caller does not see the probabilities."""
    handler = WineCultivar()
    handler.load()
    answer = handler.predict({"wines": [BAROLO, OTHER]})
    assert isinstance(answer, Answer)
    assert answer.response == {"cultivars": ["class_0", "class_1"]}
    assert [round(sum(one.values()), 6) for one in answer.context["probabilities"]] == [1, 1]
    assert handler.model_version == version_of()


@pytest.mark.parametrize("request_", [[], {}, {"wines": [{}]}, {"wines": [{**BAROLO, "hue": "x"}]}])
def test_what_is_no_wine_is_refused(request_: object) -> None:
    """In words that tell the caller what to send."""
    handler = WineCultivar()
    handler.load()
    with pytest.raises(BadRequestError, match="numbers for alcohol, malic_acid"):
        handler.predict(request_)


def test_a_prediction_is_captured(tmp_path: Path) -> None:
    """With the request and the answer as they passed, and the context."""
    app = create_app(WineCultivar, model="wine-cultivar", destination=str(tmp_path))
    with TestClient(app) as client:
        while client.get("/readyz").status_code != 200:
            assert client.get("/healthz").status_code == 200
        answer = client.post("/v1/models/wine-cultivar:predict", json={"wines": [BAROLO]})
        assert answer.json() == {"cultivars": ["class_0"]}
        assert client.post("/predict", json={"wines": 1}).status_code == 400
    messages = [one for path in tmp_path.glob("*.avro") for one in read_archive(path.open("rb"))]
    packed = [one for one in messages if one.attributes["content"] == "weighbridge.batch.v1"]
    batches = [unpack(one.attributes, one.data) for one in packed]
    captured = {
        status: (batch["request"][row], batch["response"][row], batch["context"][row])
        for batch in batches
        for row, status in enumerate(batch["status"])
    }
    assert captured[200][:2] == (answer.request.content, answer.content)
    assert b'"probabilities":[{"class_0":0.9' in captured[200][2]
    assert {batch["model_version"] for batch in batches} == {version_of()}
    assert set(captured) == {200, 400}
