"""The command as users call it, in processes of its own: texts, exit statuses, no tracebacks."""

import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from forked import call
from support import PACKAGES, Home, packed, plain, scored

from pipelines.commands.terminal import _Terminal
from pipelines.render import grid

COMMAND = Path(sys.executable).with_name("weighbridge")


def installed(*arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
    """What `call` gives, of the script that installing has made."""
    done = subprocess.run(
        [str(COMMAND), *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.put(
        packed("scores", [scored(0.5, 0.7), scored("x")]),
        plain("unheard-of", {"request": 1, "response": 1}, message_id="p"),
    )
    return home


def test_a_run_reports_what_it_did(home: Home) -> None:
    status, out, err = call("run", *home.arguments("--no-arize"))
    assert status == 0, err
    assert "created table models.scores" in out
    assert "dead letters: 1 validate" in out
    assert "parked, as nobody registered their model: 1" in out
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "--input_files is missing"),
        (["run", "--input-fils=x"], "did you mean --input_files?"),
        (["run", "--input_files=x", "--runer=y"], "did you mean --runner?"),
        (["run", "--input_files=x", "stray"], "no such option: stray"),
        (["run", "--input_files=x", "--no_arize"], "no file matches x"),
        (["run", "--input_files=x", "--max_future=10"], "write 30s, 5m, 2h or 1d"),
        (["run", "--input_files=x", "--max_envelope_bytes=-1"], "--max_envelope_bytes"),
        (["run", "--input_files=x", "--extractors_package=nowhere"], "no package nowhere"),
        (["run", "--input_files=x", "--direct_num_workers=many"], "direct_num_workers"),
        (["models", "nobody", "--extractors_package=odd"], "no model nobody is registered in odd"),
        (["tables", "--home=nowhere"], "holds no tables yet"),
        (["run", "--input_files=x", "--home="], "an empty text names no folder"),
        (["run", "--input_files=x", f"--home={__file__}"], "is a file; name a folder"),
        (["arize", "receiver", "--port=99999"], "99999 is not in the range"),
        (["tabels"], "No such command"),
        (["models", "--check", "--golden=nowhere"], "no golden case"),
        (["models", "--check", "--parked"], "drop --parked and --release"),
        (["models", "--check", "--write_golden"], "drop one of them"),
        (["models", "scores", "--parked"], "are of all models; drop scores"),
        *(
            ([*command, "--since=2026-03-02", "--until=2026-03-01"], "--until is not after --since")
            for command in (
                ["failures"],
                ["replay", "--failures"],
                ["ledger"],
                ["tables", "labels", "m"],
            )
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2_and_one_message(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    status, out, err = call(*arguments, cwd=tmp_path)
    assert status == 2
    assert said in err
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []


def test_the_script_that_is_installed(tmp_path: Path) -> None:
    status, out, err = installed("models", "--extractors_package=nowhere", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert "no package nowhere" in err
    assert "Traceback" not in err


def test_ctrl_c_ends_a_run_and_says_how_to_go_on(tmp_path: Path) -> None:
    home = Home(tmp_path, "harmful")
    home.put(packed("sleeps", [{"request": {"number": 1}, "response": 1}] * 40))
    process = subprocess.Popen(
        [str(COMMAND), "run", *home.arguments("--no_arize")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "120", "PYTHONPATH": str(PACKAGES)},
        start_new_session=True,
        # Where tests run in the background it is ignored, and would be by the run.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert any("created table weighbridge.costs" in line for line in process.stdout)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "Aborted. Run the same command again: it does what is still to be done."


def test_missing_keys_are_all_named(home: Home) -> None:
    status, _, err = call("run", *home.arguments())
    assert status == 2
    assert "set ARIZE_API_KEY and ARIZE_SPACE_ID, or run with --no_arize" in err


def test_a_run_that_cannot_write_fails_with_1(home: Home) -> None:
    home.folder.mkdir()
    (home.folder / "tables").write_text("a file where the tables should be")
    status, _, err = call("run", *home.arguments("--no_arize"))
    assert status == 1
    assert "Error: the run failed with FileExistsError" in err


def test_models_shows_what_follows_from_a_row_class() -> None:
    status, out, err = call("models", "--extractors_package=odd")
    assert status == 0, err
    assert "scores (prediction) -> models.scores, Arize binary" in out
    assert "scores (actual) -> models.scores_actuals, Arize binary" in out
    assert "raises (prediction) -> models.raises, table only: untyped" in out
    assert "PredictionScore" in out


def test_golden_cases_are_checked_and_written(tmp_path: Path) -> None:
    case = tmp_path / "golden" / "numbers" / "one"
    case.mkdir(parents=True)
    (case / "envelope.json").write_text('{"request": {"number": 4}, "response": 1}')
    options = ("--extractors_package=odd", f"--golden={tmp_path / 'golden'}")
    assert call("models", "--check", *options)[0] == 1
    assert call("models", "numbers", "--write-golden", *options)[0] == 0
    status, out, _ = call("models", "--check", *options)
    assert (status, out.strip()) == (0, "same    numbers/one")
    (case / "rows.json").write_text("[]")
    status, out, _ = call("models", "--check", *options)
    assert status == 1
    assert "differs numbers/one\n        rows: 1, and not 0" in out
    assert "--write_golden" in out


def test_tables_shows_counts_and_rows(home: Home) -> None:
    home.run()
    place = ("--home", str(home.folder), "--extractors_package", "odd")
    status, out, err = call("tables", *place)
    assert status == 0, err
    [line] = [line for line in out.splitlines() if line.strip().startswith("models.scores ")]
    assert line.split() == ["models.scores", "scores", "2", "1", "1", "1"]
    for order in ((*place, "show"), ("show", *place[:2])):
        status, out, _ = call("tables", *order, "scores", "--rows=1")
        assert status == 0
        assert "pub-0:0" in out
    status, _, err = call("tables", *place, "show", "nobody")
    assert status == 2
    assert "no table nobody; there are" in err


def test_help_needs_no_beam() -> None:
    code = (
        "import sys; from pipelines.cli import _main\n"
        "assert _main(['run', '--help']) == 0\n"
        "heavy = {'apache_beam', 'pyarrow', 'pandas', 'arize', 'pyiceberg'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("heavy: []")
    for flag in ("--input_files", "--home", "--arize_url", "--max_future"):
        assert flag in done.stdout


def test_a_package_in_the_current_folder_is_found(home: Home, tmp_path: Path) -> None:
    package = tmp_path / "acme"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "broken.py").write_text("def extract(:\n")
    arguments = ("run", "--input_files", str(home.input), "--no_arize")
    status, out, err = call(*arguments, "--extractors_package=acme", cwd=tmp_path)
    assert status == 2
    assert "broken.py:1" in err.replace("\n", "")
    assert "Traceback" not in out + err


def test_what_is_no_catalog_is_said_to_be_none(home: Home) -> None:
    home.run()
    (home.folder / "tables" / "catalog.db").write_text("canary")
    status, _, err = call("tables", "--home", str(home.folder), "--extractors_package", "odd")
    assert status == 1
    assert (
        err.splitlines()[-1] == "Error: the run failed with DatabaseError: file is not a database"
    )
    assert "canary" not in err


@pytest.mark.parametrize("width", [10, 30, 60])
def test_a_narrow_terminal_loses_nothing_of_a_table(width: int) -> None:
    table = grid("model", "first", "envelopes", "dead letters", numbers=2)
    table.add_row("payment-fraud-detector", "2026-11-28 01:19:23", "1,234,567", "89")
    out = StringIO()
    _Terminal(file=out, width=width).print(table)
    said = out.getvalue()
    assert "…" not in said
    first = next(line for line in said.splitlines() if "payment-frau" in line)
    assert first.split()[-2:] == ["1,234,567", "89"]
    firsts = [line.split()[0] for line in said.splitlines() if line.strip()]
    assert "".join(one for one in firsts if one in "payment-fraud-detector") == (
        "payment-fraud-detector"
    )
    assert {"2026-11-28", "01:19:23"} <= set(said.split())
