"""Trains the model when the image is built: `python -m wine_cultivar.train`."""

import pickle
from hashlib import sha256
from pathlib import Path

from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FEATURES = ("alcohol", "malic_acid", "color_intensity", "hue", "proline")
PATH = Path(__file__).with_name("model.pickle")


def train(path: Path = PATH) -> str:
    """Write the trained model to a file, and return its version: a hash of the file."""
    wine = load_wine(as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(wine.data[list(FEATURES)].to_numpy(), wine.target_names[wine.target])
    path.write_bytes(pickle.dumps(model))
    return version_of(path)


def version_of(path: Path = PATH) -> str:
    """The version of the model in a file."""
    return sha256(path.read_bytes()).hexdigest()[:12]


if __name__ == "__main__":
    print(f"trained {train()}")
