"""`weighbridge tables show` prints rows in BigQuery as it does those of Iceberg tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import GoogleEmulators
from google_emulators import InBigQuery
from support import Home, environment, packed, plain, scored

from pipelines.cli import _main


@pytest.mark.slow
def test_rows_are_shown_as_those_of_an_iceberg_table(
    tmp_path: Path, google: GoogleEmulators, capsys: pytest.CaptureFixture[str]
) -> None:
    home, beside = InBigQuery(tmp_path, google), Home(tmp_path / "iceberg")
    beside.input = home.input
    actual = {"actual": {"cases": [{"id": "c-0", "label": "yes"}]}}
    home.put(packed("scores", [scored(0.5, prefix="c")]), plain("scores", actual, message_id="t"))
    for each in (home, beside):
        each.run()
    capsys.readouterr()
    places = (home.place(), ["--home", str(beside.folder)])
    with environment(**google.environment):
        for more in (["scores"], ["scores", "--actuals", "--rows", "1"]):
            shown = []
            for place in places:
                assert _main(["tables", "show", *more, *place]) == 0
                shown.append(capsys.readouterr().out)
            assert shown[0] == shown[1]
            assert "c-0" in shown[0]
        assert _main(["tables", "show", "deliveries", *home.place()]) == 0
        assert capsys.readouterr().out.startswith("weighbridge.deliveries\n")
        assert _main(["tables", "show", "nobody", *home.place()]) == 2
    assert "no table nobody; there are" in capsys.readouterr().err
