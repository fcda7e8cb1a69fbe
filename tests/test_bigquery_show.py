"""`weighbridge tables` and `tables show` say of BigQuery what they say of Iceberg tables."""

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
        listed = []
        for place in places:
            assert _main(["tables", *place, "--extractors_package", "odd"]) == 0
            lines = map(str.split, capsys.readouterr().out.splitlines())
            listed.append({line[0]: line[1:] for line in lines if line and "." in line[0]})
        costs = "weighbridge.costs"
        assert listed[0].keys() == listed[1].keys() >= {"models.scores", costs}
        assert listed[0]["models.scores"] == ["scores", "1", "-", "1", "-"]
        for name in listed[0].keys() - {costs}:
            assert listed[0][name][:2] == listed[1][name][:2]
            assert listed[0][name][3] == listed[1][name][3]
        assert _main(["tables", "show", "deliveries", *home.place()]) == 0
        assert capsys.readouterr().out.startswith("weighbridge.deliveries\n")
        assert _main(["tables", "show", "nobody", *home.place()]) == 2
    assert "no table nobody; there are" in capsys.readouterr().err
