"""Each example of docs/readers.md prints what the page shows; run as a script, this writes it."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google_emulators import GoogleEmulators, InBigQuery
from support import Home, plain
from test_docs import README, Block, Walk, blocks
from test_docs import plain as shown

PAGE = Path(__file__).parents[1] / "docs/readers.md"
DAY = datetime(2026, 1, 31, 12, tzinfo=UTC)


def messages() -> list[Any]:
    """Three estimates, one of them of the day before, and one sale."""
    houses = [("h-1", "Oslo", 410_000.0), ("h-2", "Oslo", 290_000.0), ("h-3", "Bergen", 350_000.0)]
    found = []
    for number, (house, city, price) in enumerate(houses):
        body = {
            "request": {"houses": [{"house_id": house, "square_metres": 90.5, "city": city}]},
            "response": {"prices": [price]},
        }
        at = DAY - timedelta(days=number // 2)
        found.append(plain("house-price", body, message_id=house, at=at))
    sale = {"actual": {"house_id": "h-1", "price": 395_000.0}}
    later = DAY + timedelta(days=40)
    found.append(plain("house-price", sale, message_id="s-1", at=later, kind="actual"))
    return found


def set_up(folder: Path, home: Home) -> None:
    """The model of the README, and its tables."""
    [model] = [block for block in blocks(README) if block.title]
    package = model.title.partition("/")[0]
    walk = Walk(folder)
    walk.follow(Block("python", f"{package}/__init__.py", "", 0))
    walk.follow(model)
    sys.path.insert(0, str(folder))
    try:
        home.package = package
        home.put(*messages())
        home.run()
    finally:
        sys.path.remove(str(folder))
        for name in [each for each in sys.modules if each.partition(".")[0] == package]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    folder = tmp_path_factory.mktemp("readers")
    return prepared(folder)


def prepared(folder: Path) -> Walk:
    home = Home(folder)
    home.folder = folder / ".weighbridge"
    set_up(folder, home)
    walk = Walk(folder)
    for block in blocks(PAGE):
        if block.title:
            walk.follow(block)
    return walk


EXAMPLES = [block for block in blocks(PAGE) if block.language == "console"]


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(block, marks=[pytest.mark.slow] if "spark" in block.text else [])
        for block in EXAMPLES
    ],
    ids=lambda block: block.text.partition("with_")[2].partition(".")[0],
)
def test_an_example_prints_what_the_page_shows(walk: Walk, example: Block) -> None:
    if "spark" in example.text:
        check_spark()
    told = walk.follow(example)
    log = walk.folder / "spark.log"
    if log.exists() and "unresolved dependency" in log.read_text():
        pytest.skip("Iceberg's runtime for Spark cannot be fetched from Maven Central")
    assert shown(told) == shown(example.text), log.exists() and log.read_text()[-2000:]


def check_spark() -> None:
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("pyspark is not installed: pip install -e '.[spark]'")
    if shutil.which("java") is None:
        pytest.skip("java is not installed")


def test_the_query_in_bigquery(tmp_path: Path, google: GoogleEmulators) -> None:
    home = InBigQuery(tmp_path, google)
    set_up(tmp_path, home)
    [query] = [block.text for block in blocks(PAGE) if block.language == "sql"]
    rows = google.client.query_and_wait(query.replace("my-project.weighbridge", home.dataset))
    assert [dict(row) for row in rows] == [
        {"city": "Oslo", "estimates": 2, "too_low_by": -15_000.0}
    ]


def rewrite() -> None:
    with tempfile.TemporaryDirectory() as folder:
        walk = prepared(Path(folder))
        text = PAGE.read_text()
        for block in reversed(EXAMPLES):
            real = walk.follow(block)
            text = text[: block.start] + real + text[block.start + len(block.text) :]
        PAGE.write_text(text)


if __name__ == "__main__":
    rewrite()
