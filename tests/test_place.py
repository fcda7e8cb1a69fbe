"""Where tables and homes can be: what is refused before anything is read or opened."""

from __future__ import annotations

import pickle
from pathlib import Path

import click
import pytest
from forked import call
from support import Home, environment, packed, scored

from pipelines.address import Address, folder_of, local_path, location_of
from pipelines.catalog import CatalogAddress, is_here
from pipelines.main import run
from pipelines.options import RunOptions, parse_run
from pipelines.runners import check_reachable
from pipelines.store import Store
from schemas import ConfigurationError

RUN = ["--input_files", "a"]
REST = ["--catalog_uri", "https://catalog.example.com/iceberg"]
BUCKET_HOME = ["--home", "gs://bucket/home"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--catalog_uri", "postgresql://me:sesame@db/x", "--warehouse", "gs://b"], "PGPASSWORD"),
        (["--catalog_uri", "postgresql://db/x?password=sesame"], "PGPASSWORD"),
        (["--catalog_uri", "postgresql://me@db/x"], "needs a --warehouse"),
        (["--catalog_uri", "catalog.example.com"], "not of the form https://HOST"),
        ([*REST, "--catalog_property", "sesame"], "not of the form NAME=VALUE"),
        ([*REST, "--catalog_property", "token=sesame"], "CATALOG__WEIGHBRIDGE__TOKEN in"),
        (
            [*REST, "--catalog_property", "s3.secret-access-key=sesame"],
            "WEIGHBRIDGE__S3__SECRET_ACCESS_KEY in",
        ),
        ([*REST, "--catalog_property", "credential=a:sesame"], "WEIGHBRIDGE__CREDENTIAL in"),
        (BUCKET_HOME, "needs a --catalog_uri"),
        (["--home", "ftp://host/folder"], "neither a path nor of the form gs://BUCKET/PREFIX"),
        (["--home", "gs://"], "neither a path nor of the form"),
        (
            ["--tables", "bigquery", "--dataset", "my-project.d", "--staging", "gs://b-1", *REST],
            "--catalog_uri is for --tables iceberg",
        ),
    ],
)
def test_what_does_not_go_together_is_said_without_secrets(
    arguments: list[str], message: str
) -> None:
    with pytest.raises(click.UsageError, match=message) as raised:
        parse_run([*RUN, *arguments])
    assert "sesame" not in str(raised.value)


def test_a_place_names_a_catalog_and_its_properties() -> None:
    more = ["--warehouse", "w", "--catalog_property", "auth.type=google"]
    options = parse_run([*RUN, *REST, *BUCKET_HOME, *more])
    tables = options.iceberg()
    assert tables.address == CatalogAddress(REST[1], "w", (("auth.type", "google"),))
    assert tables.home == Address("gs://bucket/home")
    assert pickle.loads(pickle.dumps(tables)) == tables
    assert pickle.loads(pickle.dumps(Store(tables.home / "push"))).path("x") == (
        "gs://bucket/home/push/x"
    )


@pytest.mark.parametrize(
    ("place", "local"),
    [
        ([], "--home .weighbridge"),
        ([*REST], "--home .weighbridge"),
        (
            [*BUCKET_HOME, "--catalog_uri", "http://localhost:8181"],
            "--catalog_uri http://localhost:8181",
        ),
        ([*BUCKET_HOME, *REST, "--warehouse", "file:///data"], "--warehouse file:///data"),
        ([*BUCKET_HOME, *REST, "--warehouse", "gs://bucket/tables"], ""),
        ([*BUCKET_HOME, *REST, "--warehouse", "analytics"], ""),
    ],
)
@pytest.mark.parametrize(
    "runner",
    [
        ["--runner", "DataflowRunner", "--sdk_container_image", "eu.example/worker:1"],
        ["--runner", "FlinkRunner", "--flink_master", "flink.example.com:8081"],
        ["--runner", "PortableRunner", "--job_endpoint", "jobs.example.com:8099"],
    ],
)
def test_what_others_do_not_reach_is_refused(
    place: list[str], local: str, runner: list[str]
) -> None:
    options = parse_run([*RUN, *place, *runner])
    if not local:
        check_reachable(options)
        return
    with pytest.raises(ConfigurationError, match=f"do not reach {local}; name a --home"):
        check_reachable(options)


def test_a_runner_that_beam_does_not_have() -> None:
    with pytest.raises(
        ConfigurationError, match="--runner: Beam has no FlinkRuner; it has .*Flink"
    ):
        check_reachable(parse_run([*RUN, "--runner", "FlinkRuner"]))
    assert not reached(parse_run([*RUN, "--runner", "company.runners.OwnRunner"]))
    assert reached(parse_run([*RUN, "--runner", "DirectRunner"]))


def test_workers_of_dataflow_need_code() -> None:
    options = parse_run([*RUN, *BUCKET_HOME, *REST, "--runner", "DataflowRunner"])
    with pytest.raises(ConfigurationError, match="neither Weighbridge nor extractors: name an --"):
        check_reachable(options)


def reached(options: RunOptions) -> bool:
    try:
        check_reachable(options)
    except ConfigurationError:
        return False
    return True


@pytest.mark.parametrize(
    "runner",
    [
        [],
        ["--direct_running_mode", "multi_processing"],
        ["--runner", "PrismRunner"],
        ["--runner", "FlinkRunner", "--flink_master", "[local]"],
        ["--runner", "PortableRunner", "--job_endpoint", "embed"],
        ["--runner", "PortableRunner", "--job_endpoint", "localhost:8099"],
    ],
)
def test_runners_of_this_machine_may_use_its_folders(runner: list[str]) -> None:
    assert reached(parse_run([*RUN, *runner]))


def test_a_refusal_ends_the_command_before_anything_is_made(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.put(packed("scores", [scored(0.5)]))
    status, out, err = call("run", *home.arguments("--no_arize", "--runner", "DataflowRunner"))
    assert (status, out.strip()) == (2, "")
    assert "Error: workers of the DataflowRunner do not reach --home" in err
    assert not home.folder.exists()


def test_following_needs_a_home_here(tmp_path: Path) -> None:
    more = [*BUCKET_HOME, *REST, "--follow", "--no_arize", "--extractors_package", "odd"]
    with pytest.raises(click.UsageError, match="following needs a --home on this machine"):
        run(["--input_files", str(tmp_path), *more])


def test_settings_of_other_catalogs_do_not_disturb_the_default_one(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.put(packed("scores", [scored(0.5)]))
    wrong = {"URI": "https://nowhere.example.com", "TYPE": "rest", "WAREHOUSE": "gs://nowhere"}
    with environment(**{f"PYICEBERG_CATALOG__WEIGHBRIDGE__{n}": v for n, v in wrong.items()}):
        assert home.run().rows == 1
    assert home.row_ids("scores") == ["pub-0:0"]


def test_tables_are_shown_wherever_they_are(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.put(packed("scores", [scored(0.5)]))
    warehouse = ["--warehouse", f"file://{tmp_path}/elsewhere"]
    home.run("--no_arize", *warehouse)
    assert list((tmp_path / "elsewhere").rglob("*.parquet"))
    given = ["--home", str(home.folder), *warehouse]
    status, out, err = call("tables", "--extractors_package", "odd", *given)
    assert (status, err) == (0, "")
    assert "models.scores" in out
    for arguments in (["tables", *given, "show", "scores"], ["tables", "show", "scores", *given]):
        status, out, err = call(*arguments)
        assert (status, err) == (0, "")
        assert "pub-0:0" in out


def test_addresses_and_paths() -> None:
    assert folder_of("a/b") == Path("a/b")
    assert folder_of("s3://bucket/a/") == Address("s3://bucket/a")
    assert str(folder_of("gs://bucket") / "a" / "b") == "gs://bucket/a/b"
    for path in ("/a/b", "gs://bucket/a"):
        assert local_path(location_of(path)) == path
    assert local_path("file:/a/b") == "/a/b"
    assert [is_here(uri) for uri in ("sqlite:///x", "/data", "http://127.0.0.1:1", "s3://b")] == [
        True,
        True,
        True,
        False,
    ]
