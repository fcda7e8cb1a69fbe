"""Catalogs and warehouses elsewhere: real servers, whole runs, and what goes wrong on the way."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import catalog_child
import psycopg
import pytest
from catalogs import (
    InCatalog,
    NotInstalled,
    Wire,
    answering_server,
    postgres_server,
    rest_server,
    s3_server,
)
from forked import killed_at
from support import environment, packed, plain, scored
from test_commit import NAME, SCHEMA, held, rows

from pipelines.address import Address, Folder
from pipelines.catalog import CatalogAddress
from pipelines.commit import read_ring
from pipelines.main import run
from pipelines.outbox import Outbox
from pipelines.receiver import ArizeReceiver
from pipelines.store import Store
from pipelines.tables import Tables
from pipelines.unwritten import commit_or_keep, commit_unwritten
from schemas import ConfigurationError, RetriableError
from weighbridge.archive import read_archive

pytestmark = pytest.mark.slow


class Postgres:
    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._made = 0

    def database(self) -> str:
        """The address of a new one."""
        self._made += 1
        name = f"d{self._made}"
        self.execute(f"CREATE DATABASE {name}")
        return f"{self.uri.rpartition('/')[0]}/{name}"

    def execute(self, *statements: str, uri: str = "") -> None:
        with psycopg.connect(uri or self.uri, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    try:
        # Not below pytest's folder, which is for its own user only.
        with TemporaryDirectory() as folder, postgres_server(Path(folder)) as uri:
            yield Postgres(uri)
    except NotInstalled as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as bucket:
        yield bucket


@pytest.fixture
def servers() -> Iterator[ExitStack]:
    with ExitStack() as running:
        yield running


def rest(servers: ExitStack, folder: Path, warehouse: str = "") -> str:
    settings = {}
    if warehouse.startswith("gs:"):
        settings = {
            "CATALOG_IO__IMPL": "org.apache.iceberg.gcp.gcs.GCSFileIO",
            "CATALOG_GCS_SERVICE_HOST": os.environ["STORAGE_EMULATOR_HOST"],
            "CATALOG_GCS_NO__AUTH": "true",
            "CATALOG_WAREHOUSE": warehouse,
        }
    try:
        return servers.enter_context(rest_server(folder, **settings))
    except NotInstalled as missing:
        pytest.skip(str(missing))


KINDS = ["postgres and gs", "postgres and s3", "rest and files", "rest and gs"]


@pytest.fixture(params=KINDS)
def home(request: pytest.FixtureRequest, tmp_path: Path, servers: ExitStack) -> InCatalog:
    """A home on the object store of its warehouse, if it is on one."""
    catalog, _, storage = request.param.split()
    root = ""
    if storage != "files":
        root = f"{request.getfixturevalue(storage)}/{tmp_path.name}-{os.getpid()}"
    warehouse = f"{root}/tables" if root else f"file://{tmp_path}/warehouse"
    if catalog == "postgres":
        uri = request.getfixturevalue("postgres").database()
    else:
        uri = rest(servers, tmp_path, warehouse if root else "")
    return InCatalog(tmp_path, uri, warehouse, f"{root}/home" if root else "")


def stored(home: InCatalog, folder: str) -> list[str]:
    store = Store(home.where)
    names = store.names(folder, ".avro")
    return [m.message_id for name in names for m in read_archive(BytesIO(store.read(name)))]


def test_a_run_fills_tables_and_home_once(home: InCatalog) -> None:
    home.put(
        packed("scores", [scored(0.5, 0.7), scored("x", prefix="d")]),
        plain("scores", {"actual": {"cases": [{"id": "c-0", "label": "no"}]}}, message_id="t"),
        plain("unheard-of", {"request": 1, "response": 1}, message_id="p"),
    )
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        reports = [run(home.arguments("--arize_url", receiver.url)) for _ in range(2)]
        uploads = sorted(upload.table.num_rows for upload in receiver.uploads)
    assert [report.rows for report in reports] == [3, 0]
    assert home.row_ids("scores") == ["pub-0:0", "pub-0:1"]
    assert home.row_ids("scores_actuals") == ["t:0"]
    assert uploads == [1, 2]
    assert [row["outcome"] for row in home.rows("deliveries", "weighbridge")] == ["delivered"] * 2
    assert len(stored(home, "failures")) == 1
    assert stored(home, "parked") == ["p"]
    assert Outbox(home.where).entries() == set()
    assert home.tables().load("models.scores").location().startswith(home.address.warehouse)


def test_what_could_not_be_sent_waits_in_the_outbox(home: InCatalog) -> None:
    home.put(packed("scores", [scored(0.5)]))
    with environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space"):
        with ArizeReceiver("another key", "space") as receiver:
            assert run(home.arguments("--arize_url", receiver.url)).undelivered_rows == 1
        with ArizeReceiver("key", "space") as receiver:
            assert run(home.arguments("--arize_url", receiver.url)).undelivered_rows == 0
            assert sum(upload.table.num_rows for upload in receiver.uploads) == 1


@pytest.mark.parametrize(
    "step", ["after data file", "after entry", "before catalog", "after catalog"]
)
def test_a_killed_run_is_made_whole(home: InCatalog, step: str) -> None:
    home.put(packed("scores", [scored(0.5), scored(0.7, prefix="d")]))
    keys = environment(ARIZE_API_KEY="key", ARIZE_SPACE_ID="space")
    with keys, ArizeReceiver("key", "space") as receiver:
        arguments = home.arguments("--arize_url", receiver.url)
        killed_at(step, *arguments)
        assert run(arguments).undelivered_rows == 0
        assert sum(upload.table.num_rows for upload in receiver.uploads) == 2
    assert home.row_ids("scores") == ["pub-0:0", "pub-1:0"]
    assert Outbox(home.where).entries() == set()


def new_table(home: InCatalog) -> Tables:
    tables = home.tables()
    tables.prepare([])
    tables._prepare(NAME, SCHEMA)
    return tables


def behind(home: InCatalog, wire: Wire) -> Tables:
    parts = urlsplit(home.address.uri)
    uri = home.address.uri.replace(f":{parts.port}", f":{wire.port}")
    return Tables(home.where, CatalogAddress(uri, home.address.warehouse))


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
def test_a_connection_lost_in_a_commit_loses_and_doubles_nothing(
    home: InCatalog, answered: bool
) -> None:
    tables = new_table(home)
    wire = Wire(urlsplit(home.address.uri).port or 0)
    lost = behind(home, wire)
    files = lost.write_files(NAME, rows(["a", "b"])).files
    asks = b"COMMIT" if home.address.uri.startswith("postgres") else b"/tables/things HTTP"
    outbox = Outbox(home.where)
    lost.load(NAME)

    class Announced(Outbox):
        def put(self, commit: object) -> None:
            super().put(commit)  # type: ignore[arg-type]
            if not wire.cuts:
                wire.cut(asks, answered)

    try:
        lost.commit(NAME, files, Announced(home.where))
    except RetriableError as error:
        assert "run it again" in str(error)
        lost.commit(NAME, files, outbox)
    assert wire.cuts == 1
    assert held(tables) == ["a:0", "a:1", "b:0", "b:1"]
    assert set(read_ring(tables.load(NAME))) == outbox.entries()
    wire.close()


def test_another_writer_is_noticed(home: InCatalog) -> None:
    tables = new_table(home)
    other = Tables(home.folder / "other", home.address)  # of another machine: no lock between them
    files = tables.write_files(NAME, rows(["a", "b"])).files

    class Meanwhile(Outbox):
        def put(self, commit: object) -> None:
            super().put(commit)  # type: ignore[arg-type]
            if len(self.entries()) == 1:
                other.commit(NAME, other.write_files(NAME, rows(["b", "c"])).files, Outbox(None))

    tables.commit(NAME, files, Meanwhile(home.where))
    assert held(tables) == ["a:0", "a:1", "b:0", "b:1", "c:0", "c:1"]


def test_a_table_that_is_gone_gets_its_rows_later(home: InCatalog) -> None:
    tables = new_table(home)
    files = tables.write_files(NAME, rows(["a"])).files
    tables.catalog.drop_table(NAME)
    files += home.tables().unchecked().write_files(NAME, rows(["b"])).files
    assert commit_or_keep(tables, NAME, files, Outbox(None)) is None
    assert len(Store(home.where).names("unwritten", ".json")) == 1
    new_table(home)
    assert commit_unwritten(tables, {}) == [f"committed 4 of 4 rows that {NAME} had refused"]
    assert commit_unwritten(tables, {}) == []
    assert held(tables) == ["a:0", "a:1", "b:0", "b:1"]


def test_a_role_that_may_not_commit_is_a_refusal(postgres: Postgres, tmp_path: Path) -> None:
    uri = postgres.database()
    home = InCatalog(tmp_path, uri, f"file://{tmp_path}/warehouse")
    tables = new_table(home)
    role = f"reader{uri.rpartition('/d')[2]}"
    postgres.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'sesame'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
        uri=uri,
    )
    lesser = Tables(home.where, CatalogAddress(uri.replace("scales", role), home.address.warehouse))
    files = lesser.write_files(NAME, rows(["a"])).files
    assert commit_or_keep(lesser, NAME, files, Outbox(None)) is None
    assert held(tables) == []
    assert commit_unwritten(tables, {}) == [f"committed 2 of 2 rows that {NAME} had refused"]
    assert held(tables) == ["a:0", "a:1"]


def test_what_an_object_store_refuses_is_kept(s3: str, postgres: Postgres, tmp_path: Path) -> None:
    home = InCatalog(tmp_path, postgres.database(), f"{s3}/{tmp_path.name}")
    tables = new_table(home)
    files = tables.write_files(NAME, rows(["a"])).files
    with (
        answering_server(403) as url,
        environment(PYICEBERG_CATALOG__WEIGHBRIDGE__S3__ENDPOINT=url),
    ):
        assert commit_or_keep(home.tables(), NAME, files, Outbox(None)) is None
        with pytest.raises(
            ConfigurationError, match=f"--warehouse {home.address.warehouse} may not"
        ):
            home.tables().prepare([])
    assert commit_unwritten(tables, {}) == [f"committed 2 of 2 rows that {NAME} had refused"]


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "rest"])
@pytest.mark.parametrize(
    ("writers", "rounds", "tables"), [(8, 3, 1), (3, 1, 50)], ids=["one table", "50 tables"]
)
def test_many_processes_lose_and_double_nothing(
    request: pytest.FixtureRequest,
    servers: ExitStack,
    tmp_path: Path,
    kind: str,
    writers: int,
    rounds: int,
    tables: int,
) -> None:
    uri, warehouse = "", ""
    if kind != "sqlite":
        warehouse = f"file://{tmp_path}/warehouse"
        found = kind == "postgres" and request.getfixturevalue("postgres").database()
        uri = found or rest(servers, tmp_path)
    folder = tmp_path / "home"
    ours = Tables(folder, CatalogAddress(uri, warehouse))
    ours.prepare([])
    names = [f"models.t{i}" for i in range(tables)]
    for name in names:
        ours._prepare(name, catalog_child.SCHEMA)
    child = [sys.executable, str(Path(__file__).with_name("catalog_child.py"))]
    # Homes of their own: no lock of this machine lets them take turns.
    homes = [folder if kind == "sqlite" else tmp_path / f"home{i}" for i in range(writers)]
    processes = [
        subprocess.Popen([*child, str(home), uri, warehouse, f"w{i}", str(rounds), *names])
        for i, home in enumerate(homes)
    ]
    assert [process.wait() for process in processes] == [0] * writers
    own = [f"w{i}-{n}" for i in range(writers) for n in range(rounds)]
    wanted = sorted(
        f"{e}:{i}" for e in [*own, *(f"shared-{n}" for n in range(rounds))] for i in (0, 1)
    )
    for name in names:
        found = ours.load(name).scan().to_arrow()["row_id"].to_pylist()
        assert sorted(found) == wanted, name


def _names(writers: int) -> list[str]:
    return [*(f"w{i}" for i in range(writers)), "shared"]


def test_several_launchers_at_once_prepare_one_catalog(postgres: Postgres, tmp_path: Path) -> None:
    uri = postgres.database()
    code = (
        "import sys; from pathlib import Path; from pipelines.tables import Tables; "
        "from pipelines.catalog import CatalogAddress; "
        "Tables(Path(sys.argv[1]), CatalogAddress(*sys.argv[2:])).prepare([])"
    )
    command = [sys.executable, "-c", code, str(tmp_path), uri, f"file://{tmp_path}/warehouse"]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4


def test_secrets_are_not_kept(postgres: Postgres, tmp_path: Path) -> None:
    names = ("TOKEN", "S3__SECRET_ACCESS_KEY")
    secrets = {f"PYICEBERG_CATALOG__WEIGHBRIDGE__{name}": "open-sesame" for name in names}
    with environment(**secrets):
        tables = Tables(tmp_path, CatalogAddress(postgres.database(), f"file://{tmp_path}/w"))
        tables.prepare([])
        assert tables.catalog.properties["token"] == "open-sesame"
        assert "sesame" not in repr(tables)
        assert b"sesame" not in pickle.dumps(tables)
        assert pickle.loads(pickle.dumps(tables)).names("weighbridge") == tables.names(
            "weighbridge"
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("scales@", "nobody@"), "refuses who we are; set PGPASSWORD"),
        (("/postgres", "/nothing"), "has no such database"),
        (("", ""), "the bucket"),
    ],
)
def test_a_launch_says_what_is_wrong(
    postgres: Postgres, gs: str, tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    uri = postgres.uri.replace(*change) if change[0] else postgres.database()
    home = InCatalog(tmp_path, uri, "gs://no-such-bucket/tables")
    home.put(packed("scores", [scored(0.5)]))
    with pytest.raises(ConfigurationError, match=said) as raised:
        home.run()
    assert "sesame" not in str(raised.value)


def test_a_catalog_that_is_away_is_named(tmp_path: Path) -> None:
    home = InCatalog(tmp_path, "http://127.0.0.1:9/iceberg", f"file://{tmp_path}")
    home.put(packed("scores", [scored(0.5)]))
    with pytest.raises(ConfigurationError, match="http://127.0.0.1:9/iceberg does not answer"):
        home.run()


def test_a_catalog_that_refuses_us_says_how_to_log_in(tmp_path: Path) -> None:
    with answering_server(403) as url, pytest.raises(ConfigurationError, match="CREDENTIAL"):
        Tables(tmp_path, CatalogAddress(url)).prepare([])


@pytest.mark.parametrize("storage", ["gs", "s3", "folder"])
def test_stores_behave_alike(request: pytest.FixtureRequest, tmp_path: Path, storage: str) -> None:
    root: Folder = tmp_path
    if storage != "folder":
        root = Address(f"{request.getfixturevalue(storage)}/{tmp_path.name}-store")
    store = Store(root)
    assert store.names("a", ".json") == []
    store.write("a/b.json", b"1")
    store.write("a/b.json", b"22")
    store.write("a/d/c.json", memoryview(b"3"))
    store.write("a/.hidden.json", b"4")
    again = pickle.loads(pickle.dumps(store))
    assert again.names("a", ".json") == ["a/b.json", "a/d/c.json"]
    assert again.read("a/b.json") == b"22"
    assert 0 <= again.age("a/b.json") < 60
    assert store.path("a/b.json") == f"{root}/a/b.json"
    for text in (b"1\n", b"2\n"):
        store.append("a/index", text)
    assert store.read("a/index") == b"1\n2\n"
    store.remove("a/b.json")
    store.remove("a/b.json")
    assert not store.exists("a/b.json")
    assert store.age("a/b.json") == 0.0
    with pytest.raises(FileNotFoundError):
        store.read("a/b.json")
    with store.locked("x") as one:
        assert one
