"""The two methods that a model service needs."""

import pickle
from typing import Any

from weighbridge.service import Answer, BadRequestError, ModelHandler

from wine_cultivar.train import FEATURES, PATH, version_of


class WineCultivar(ModelHandler):
    """Answers `{"wines": [{"alcohol": 13.2, …}]}` with a cultivar for each wine."""

    def load(self) -> None:
        """Read the model that was trained when the image was built."""
        self._model = pickle.loads(PATH.read_bytes())
        self.model_version = version_of()

    def predict(self, request: Any) -> Answer:
        """The likeliest cultivar of each wine; all probabilities go into the envelope only."""
        try:
            rows = [[float(wine[name]) for name in FEATURES] for wine in request["wines"]]
        except (KeyError, TypeError, ValueError):
            raise BadRequestError(
                f'send {{"wines": [{{…}}]}} with numbers for {", ".join(FEATURES)}'
            ) from None
        if not rows:
            return Answer({"cultivars": []})
        probabilities = self._model.predict_proba(rows)
        names = self._model.classes_
        named = [dict(zip(names, row.tolist(), strict=True)) for row in probabilities]
        return Answer(
            {"cultivars": [max(one, key=one.__getitem__) for one in named]},
            context={"probabilities": named},
        )
