import functools
import importlib
import json
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from extractors import Envelope, Extractors, ModelSettings, Row, extractor, load_extractors
from extractors._registry import _registered
from schemas import ConfigurationError, DuplicateModelIdError, InvalidExtractorError

HEAD = """
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from extractors import *
from extractors import extractor

class Mine(Row):
    amount: float
"""
LINES = len(HEAD.splitlines())


class Packages:
    """Packages of one test, in a folder of its own that is on the import path meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []

    def write(self, package: str, **modules: str) -> None:
        """Write modules of a package; each begins with some imports and the row class Mine."""
        folder = self.folder / package
        folder.mkdir(exist_ok=True)
        if "__init__" not in modules:
            (folder / "__init__.py").write_text("")
        for name, code in modules.items():
            head = "" if name == "__init__" else HEAD
            (folder / f"{name}.py").write_text(head + textwrap.dedent(code).lstrip("\n"))
        self.names.append(package)
        importlib.invalidate_caches()

    def load(self, **modules: str) -> Extractors:
        self.write("company", **modules)
        return load_extractors("company")

    def refusal(self, **modules: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            self.load(**modules)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def place(self, module: str, line: int) -> str:
        """The line of a module, counted behind the head that all have."""
        return f"{self.folder / 'company' / module}.py:{LINES + line}"


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[Packages]:
    made = Packages(tmp_path)
    sys.path.insert(0, str(tmp_path))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    yield made
    sys.dont_write_bytecode = before
    sys.path.remove(str(tmp_path))
    for name in list(sys.modules):
        if name.partition(".")[0] in made.names:
            del sys.modules[name]
            _registered.pop(name, None)
    importlib.invalidate_caches()


def one(model_id: str = "mine", function: str = "extract", **options: str) -> str:
    """Code that registers one extractor."""
    given = {"row": "Mine", "model_type": '"untyped"', **options}
    arguments = ", ".join(f"{name}={value}" for name, value in given.items() if value)
    return f"""
@extractor("{model_id}", {arguments})
def {function}(envelope: Envelope) -> Iterator[Mine]:
    yield Mine(amount=1)
"""


def test_modules_register_what_they_decorate(packages: Packages) -> None:
    found = packages.load(
        first=one("fraud-v2") + one("fraud-v2", "actual", kind='"actual"', model_type=""),
        second=one("a") + one("0_b", "other", statuses="None"),
        _helper=one("helper"),
    )
    assert {key: entry.table for key, entry in found.items()} == {
        ("fraud-v2", "prediction"): "fraud_v2",
        ("fraud-v2", "actual"): "fraud_v2_actuals",
        ("a", "prediction"): "a",
        ("0_b", "prediction"): "0_b",
    }
    assert isinstance(found, MappingProxyType)
    assert found["0_b", "prediction"].statuses is None
    assert found["a", "prediction"].statuses == range(200, 300)
    assert not any(entry.pushed for entry in found.values())


def test_several_ids_may_share_a_function(packages: Packages) -> None:
    code = one("one").replace("\n@", '\n@extractor("two", row=Mine, model_type="untyped")\n@', 1)
    found = packages.load(shared=code)
    functions = {entry.function for entry in found.values()}
    assert ({model_id for model_id, _ in found}, len(functions)) == ({"one", "two"}, 1)
    [function] = functions
    assert pickle.loads(pickle.dumps(function)) is function


def test_packages_do_not_mix_and_loading_again_is_the_same(packages: Packages) -> None:
    packages.write("other", mine=one("other"))
    first = packages.load(mine=one("mine"))
    assert dict(load_extractors("company")) == dict(first)
    assert list(load_extractors("other")) == [("other", "prediction")]
    # Edited and reloaded, as in a notebook: the function is elsewhere in the file now.
    packages.write("company", mine="# a word\n" + one("mine"))
    importlib.reload(sys.modules["company.mine"])
    [entry] = load_extractors("company").values()
    assert entry.place == packages.place("mine", 3)


BINARY = """
class Scored(Row, default_role=Feature):
    id: Annotated[str, PredictionId]
    label: Annotated[str, PredictionLabel]

class Truth(Row):
    id: Annotated[str, PredictionId]
    label: Annotated[str, ActualLabel]

@extractor("m", row=Scored, model_type="binary", settings=ModelSettings(owner="a@b.c"))
def extract(envelope: Envelope) -> Iterator[Scored]:
    yield from ()

@extractor("m", row=Truth, kind="actual"{more})
def extract_actual(envelope: Envelope) -> Iterator[Truth]:
    yield from ()
"""


def test_actuals_take_type_and_settings_of_their_predictions(packages: Packages) -> None:
    found = packages.load(m=BINARY.format(more=""))
    actual = found["m", "actual"]
    assert (actual.model_type, actual.settings.owner, actual.pushed) == ("binary", "a@b.c", True)


@pytest.mark.parametrize(
    ("more", "owner", "pushed"),
    [
        (', model_type="binary"', "", True),
        (', settings=ModelSettings(arize="off")', "", False),
        (', model_type="untyped"', "", False),
    ],
)
def test_actuals_may_have_their_own(
    packages: Packages, more: str, owner: str, pushed: bool
) -> None:
    actual = packages.load(m=BINARY.format(more=more))["m", "actual"]
    assert (actual.settings.owner, actual.pushed) == (owner, pushed)


def test_actuals_of_another_type_are_refused(packages: Packages) -> None:
    message = packages.refusal(m=BINARY.format(more=', model_type="categorical"'))
    assert message == (
        f'{packages.place("m", 13)}: m: its actuals are "categorical", its predictions "binary"; '
        "leave out model_type= of the actuals"
    )


def test_actuals_without_predictions_need_a_type(packages: Packages) -> None:
    message = packages.refusal(m=one("m", kind='"actual"', model_type=""))
    assert message == (
        f"{packages.place('m', 1)}: m: there are actuals and no predictions to take the model type "
        "from; give model_type="
    )


def test_actuals_without_an_id_join_nothing(packages: Packages) -> None:
    code = BINARY.format(more="").replace("    id: Annotated[str, PredictionId]\n", "")
    assert packages.refusal(m=code) == (
        f"{packages.place('m', 11)}: m: actuals join their predictions by id: give one column the "
        "role PredictionId"
    )


ID_WORDS = "use 1 to 63 of a-z, 0-9, - and _, and begin with a-z or 0-9"


@pytest.mark.parametrize(
    "model_id", ["", "A", "a b", "-a", "_a", "a.b", "a/b", "é", "a" * 64, "a\n", None, 7, b"a"]
)
def test_ids_outside_of_the_pattern_are_refused(model_id: Any) -> None:
    with pytest.raises(InvalidExtractorError) as caught:
        extractor(model_id, row=Sample, model_type="untyped")
    assert str(caught.value) == f"model id {model_id!r}: {ID_WORDS}"


@pytest.mark.parametrize("model_id", ["a", "0", "a" * 63, "a-b_c-0", "a-", "a_"])
def test_ids_of_the_pattern_are_taken(model_id: str) -> None:
    assert callable(extractor(model_id, row=Sample, model_type="untyped"))


class Sample(Row):
    amount: float


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row": Row}, "m: row= takes a class derived from Row"),
        ({"row": dict}, "m: row= takes a class derived from Row"),
        ({"row": Sample(amount=1)}, "m: row= takes a class derived from Row"),
        ({"kind": "label"}, 'm: kind is "prediction" or "actual", not \'label\''),
        (
            {"model_type": None},
            "m: give model_type=, one of regression, binary, categorical, multiclass, ranking, "
            "untyped",
        ),
        (
            {"model_type": "object_detection"},
            'm: model_type="object_detection" is not supported; model_type="untyped" keeps its '
            "table",
        ),
        (
            {"model_type": "generative_llm", "kind": "actual"},
            'm: model_type="generative_llm" is not supported; model_type="untyped" keeps its table',
        ),
        (
            {"model_type": "binray"},
            'm: model_type="binray" is not one of regression, binary, categorical, multiclass, '
            "ranking, untyped",
        ),
        (
            {"settings": {"owner": "a-team@example.com"}},
            'm: settings= takes ModelSettings(…), e.g. ModelSettings(owner="a-team@…")',
        ),
        (
            {"statuses": 200},
            "m: statuses= takes a range, e.g. range(200, 300), or None for all",
        ),
        (
            {"statuses": [200]},
            "m: statuses= takes a range, e.g. range(200, 300), or None for all",
        ),
    ],
)
def test_other_arguments_that_cannot_be_are_refused(options: Any, message: str) -> None:
    with pytest.raises(InvalidExtractorError) as caught:
        extractor("m", **{"row": Sample, "model_type": "untyped", **options})
    assert str(caught.value) == message


def no_argument() -> list[Sample]:
    return []


def two_arguments(envelope: Envelope, more: int) -> list[Sample]:
    return []


def by_name_only(*, envelope: Envelope) -> list[Sample]:
    return []


def with_default(envelope: Envelope, more: int = 0) -> list[Sample]:
    return []


async def asynchronous(envelope: Envelope) -> list[Sample]:
    return []


async def asynchronous_generator(envelope: Envelope) -> Any:
    yield Sample(amount=1)


class Callables:
    def method(self, envelope: Envelope) -> list[Sample]:
        return []

    def __call__(self, envelope: Envelope) -> list[Sample]:
        return []


def nested() -> Callable[[Envelope], list[Sample]]:
    def inner(envelope: Envelope) -> list[Sample]:
        return []

    return inner


BY_NAME = (
    "is no function of a module; workers import it by name, so define it with def at the top of "
    "the module"
)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_argument, "m: no_argument must take one argument, the envelope"),
        (two_arguments, "m: two_arguments must take one argument, the envelope"),
        (by_name_only, "m: by_name_only must take one argument, the envelope"),
        (asynchronous, "m: asynchronous must not be async; write def, not async"),
        (
            asynchronous_generator,
            "m: asynchronous_generator must not be async; write def, not async",
        ),
        (lambda envelope: [], f"m: <lambda> {BY_NAME}"),
        (nested(), f"m: nested.<locals>.inner {BY_NAME}"),
        (Callables.method, f"m: Callables.method {BY_NAME}"),
        (Callables(), "m: @extractor takes a function"),
        (Callables, "m: @extractor takes a function"),
        (functools.partial(with_default, more=1), "m: @extractor takes a function"),
    ],
)
def test_what_is_no_function_of_one_argument_is_refused(function: Any, message: str) -> None:
    with pytest.raises(InvalidExtractorError) as caught:
        extractor("m", row=Sample, model_type="untyped")(function)
    assert str(caught.value) == message


def test_the_decorated_function_is_returned_unchanged() -> None:
    register = extractor("m", row=Sample, model_type="untyped")
    try:
        assert register(with_default) is with_default
    finally:
        del _registered[__name__]


@pytest.mark.parametrize(
    ("code", "line"),
    [
        # Copied, and not renamed.
        (one("a") + one("b"), 1),
        # Another decorator stands on top.
        (one("a").replace("\n@", "\n@staticmethod\n@", 1), 1),
        # Replaced further down.
        (one("a") + "\nextract = 7\n", 1),
    ],
)
def test_a_function_that_its_module_does_not_keep_cannot_travel(
    packages: Packages, code: str, line: int
) -> None:
    assert packages.refusal(m=code) == (
        f"{packages.place('m', line)}: a: workers import its function by name, and extract is "
        "something else at the end of its module; give each function a name of its own, and put "
        "@extractor on top"
    )


def test_a_function_wrapped_below_the_decorator_travels(packages: Packages) -> None:
    code = """
        import functools

        def logged(function):
            @functools.wraps(function)
            def wrapper(envelope):
                return function(envelope)
            return wrapper

        @extractor("m", row=Mine, model_type="untyped")
        @logged
        def extract(envelope: Envelope) -> Iterator[Mine]:
            yield Mine(amount=1)
    """
    [entry] = packages.load(m=code).values()
    assert pickle.loads(pickle.dumps(entry)).function is entry.function
    assert entry.place == packages.place("m", 9)


@pytest.mark.parametrize(
    ("first", "second", "what", "named"),
    [
        (("a", "prediction"), ("a", "prediction"), "model id and kind", "a (prediction)"),
        (("a-b", "prediction"), ("a_b", "prediction"), "table name", "a-b (prediction)"),
        (("a", "actual"), ("a_actuals", "prediction"), "table name", "a (actual)"),
        (("a-b", "actual"), ("a_b-actuals", "prediction"), "table name", "a-b (actual)"),
    ],
)
def test_two_of_one_name_are_refused_with_both_places(
    packages: Packages, first: Any, second: Any, what: str, named: str
) -> None:
    def code(model_id: str, kind: str) -> str:
        return one(model_id, kind=f'"{kind}"')

    with pytest.raises(DuplicateModelIdError) as caught:
        packages.load(x=code(*first), y=code(*second))
    assert str(caught.value) == (
        f"{packages.place('y', 1)}: {second[0]} ({second[1]}) has the same {what} as {named} at "
        f"{packages.place('x', 1)}; rename one of them"
    )


ROLES = """
class Wrong(Row):
    {column}

@extractor("m", row=Wrong, model_type="{model_type}")
def extract(envelope: Envelope) -> Iterator[Wrong]:
    yield from ()
"""


@pytest.mark.parametrize(
    ("column", "model_type", "line", "words"),
    [
        # Where the class is made,
        ("a: Annotated[float, Feature, Tag]", "untyped", 1, "Wrong.a has 2 roles (Feature, Tag)"),
        ("a: Annotated[float, ShapValue]", "untyped", 1, "Wrong.a: ShapValue needs the name"),
        ("row_id: str", "untyped", 1, "Wrong.row_id: Weighbridge stamps a column of this name"),
        # and where it is registered.
        ("a: complex", "untyped", 4, "m: Wrong.a: no table column for complex; use str, int,"),
        ("a: float = None", "untyped", 4, "m: Wrong.a: its default is not of its own type;"),
        ("pass", "untyped", 4, "m: Wrong has no columns"),
        ("a: 'Later'", "untyped", 4, "m: Wrong uses a name that is defined below it, or nowhere;"),
        (
            "a: Annotated[int | None, PredictionId]",
            "untyped",
            4,
            "m: column a: PredictionId of any model is str;",
        ),
        (
            "a: Annotated[str | None, PredictionId]",
            "binary",
            4,
            "m: column a: PredictionId must not be null; remove `| None`",
        ),
        (
            "a: Annotated[str, GroupId]",
            "binary",
            4,
            "m: column a: the role GroupId has no place in prediction rows of a binary model;",
        ),
        (
            "a_shap: Annotated[str, Tag]",
            "binary",
            4,
            "m: column a_shap: Arize takes no name that ends in _shap",
        ),
        (
            "a: Annotated[float, Feature]",
            "binary",
            4,
            "m: prediction rows of a binary model need a column with one of the roles "
            "PredictionLabel, PredictionScore",
        ),
    ],
)
def test_row_classes_are_checked_at_launch_with_file_line_and_remedy(
    packages: Packages, column: str, model_type: str, line: int, words: str
) -> None:
    message = packages.refusal(m=ROLES.format(column=column, model_type=model_type))
    assert message.startswith(f"{packages.place('m', line)}: {words}")


MEND = (
    "mend the module, or leave it out: with --exclude_model m, which parks its envelopes, or by a "
    "name that begins with _"
)


@pytest.mark.parametrize(
    ("code", "line", "words"),
    [
        ("x = 1\nprint(undefined)", 2, "NameError: name 'undefined' is not defined"),
        ("import not_installed", 1, "ModuleNotFoundError: No module named 'not_installed'"),
        ("from extractors import Nothing", 1, "ImportError: cannot import name 'Nothing'"),
        ("def f(:\n  pass", 1, "SyntaxError: invalid syntax; mend"),
        ("if 1:\nx", 2, "IndentationError: expected an indented block after 'if' statement"),
        ("assert False, 'first\\nsecond'", 1, "AssertionError: first;"),
        ("raise ValueError", 1, "ValueError;"),
        (
            "from extractors import ModelSettings\nModelSettings(ownr='canary')",
            2,
            "ModelSettings has no ownr; mend",
        ),
        (
            "from extractors import ModelSettings\nModelSettings(arize_sample_rate=2)",
            2,
            "ModelSettings: arize_sample_rate: Input should be less than or equal to 1; mend",
        ),
        ("import sys\nsys.exit(3)", 2, "SystemExit: 3"),
        ("from company import _helper", 1, ""),
    ],
)
def test_a_broken_module_stops_the_launch_with_one_message(
    packages: Packages, code: str, line: int, words: str
) -> None:
    packages.write("company", _helper="y = 1\nz = y + unknown\n")
    message = packages.refusal(m=code)
    if "_helper" in code:
        # The fault is in what the module imports.
        assert message.startswith(f"{packages.place('_helper', 2)}: NameError: name 'unknown'")
    else:
        assert message.startswith(f"{packages.place('m', line)}: {words}")
    assert message.endswith(f"; {MEND}")


def test_a_missing_package_says_what_to_do(packages: Packages) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_extractors("no_such_company")
    assert str(caught.value) == (
        "there is no package no_such_company; run where it can be imported, or install it"
    )
    packages.write("company")
    with pytest.raises(ConfigurationError, match="there is no package company.models;"):
        load_extractors("company.models")


def test_a_package_that_cannot_be_imported_is_named(packages: Packages) -> None:
    message = packages.refusal(__init__="import comp\n", m=one())
    path = packages.folder / "company" / "__init__.py"
    assert message == f"{path}:1: ModuleNotFoundError: No module named 'comp'"


BROKEN = "print(undefined)\n"


@pytest.mark.parametrize(
    ("modules", "exclude", "kept", "said"),
    [
        ({"m": one("m"), "n": one("n")}, ["m"], {"n"}, "m is excluded: its envelopes are parked"),
        ({"m": one("a-b") + one("c", "g"), "n": one("n")}, ["a-b"], {"c", "n"}, "a-b is excluded"),
        ({"m": one("a") + one("b", "g"), "n": one("n")}, ["m"], {"n"}, "b is excluded"),
        ({"a_b": BROKEN, "n": one("n")}, ["a-b"], {"n"}, "company.a_b is excluded, as it fails"),
        ({"a_b": BROKEN, "n": one("n")}, ["a_b"], {"n"}, "company.a_b is excluded, as it fails"),
        # It had registered something before it failed.
        ({"m": one("x") + BROKEN, "n": one("n")}, ["m"], {"n"}, "company.m is excluded"),
    ],
)
def test_what_is_excluded_is_left_out_and_logged(
    packages: Packages,
    caplog: pytest.LogCaptureFixture,
    modules: dict[str, str],
    exclude: list[str],
    kept: set[str],
    said: str,
) -> None:
    packages.write("company", **modules)
    assert {model for model, _ in load_extractors("company", exclude)} == kept
    assert said in caplog.text


@pytest.mark.parametrize(
    ("modules", "exclude", "said"),
    [
        ({"m": one("m")}, ["k"], "--exclude_model k: neither a model nor a module of company; it"),
        ({"m": one("m")}, ["m"], "--exclude_model leaves no extractor of package company"),
        ({"m": one("m"), "n": BROKEN}, ["m"], "leave it out: with --exclude_model n, which parks"),
    ],
)
def test_what_cannot_be_excluded_stops_the_launch(
    packages: Packages, modules: dict[str, str], exclude: list[str], said: str
) -> None:
    packages.write("company", **modules)
    with pytest.raises(ConfigurationError, match=said):
        load_extractors("company", exclude)


def test_an_empty_package_says_what_to_do(packages: Packages) -> None:
    for modules in ({}, {"_helper": one()}, {"plain": "x = 1\n"}):
        assert packages.refusal(**modules) == (
            "package company registers no extractor: decorate a function with @extractor, as "
            "extractors/_template.py does"
        )


@pytest.mark.parametrize("name", ["", ".", "./extractors", "a-b", "a b", "extractors/", "a..b"])
def test_what_is_no_name_of_a_package_is_said_to_be(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_extractors(name)
    assert str(caught.value) == f"{name!r} is no name of a package, as in my_team.extractors"


def test_a_module_is_no_package() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_extractors("extractors.testing")
    assert str(caught.value) == (
        "extractors.testing is a module; name a package, a folder of modules"
    )


def test_the_version_follows_the_module_and_its_helpers(packages: Packages) -> None:
    def version(**modules: str) -> str:
        packages.write("company", **modules)
        code = "from extractors import load_extractors as l; [e] = l('company').values(); "
        done = subprocess.run(
            [sys.executable, "-B", "-c", code + "print(e.version)"],
            cwd=packages.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    helped = "from company import _helper\n" + one()
    first = version(m=helped, _helper="from company._deep import x\n", _deep="x = 1\n", _no="a = 1")
    assert len(first) == 8
    assert version(_no="a = 2\n") == first
    others = [
        version(_deep="x = 2\n"),
        version(_helper="from company._deep import x\ny = 1\n"),
        version(m=helped + "\n# a word\n"),
    ]
    assert len({first, *others}) == 4


def test_they_are_the_same_in_another_process(packages: Packages) -> None:
    here = packages.load(m=one("m") + one("n", "other"))
    code = """
        import json
        from extractors import load_extractors
        found = load_extractors("company").values()
        print(json.dumps([[e.model_id, e.version, e.shape().schema.names] for e in found]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=packages.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [
        [entry.model_id, entry.version, entry.shape().schema.names] for entry in here.values()
    ]


def test_settings_are_checked_and_fixed() -> None:
    settings = ModelSettings(owner="a@b.c", timeout=timedelta(seconds=1))
    with pytest.raises(ValueError, match="frozen"):
        settings.owner = "x"  # type: ignore[misc]
    for wrong in (
        {"timeout": timedelta(0)},
        {"max_rows_per_envelope": 0},
        {"arize_sample_rate": 0},
        {"arize_sample_rate": 1.1},
        {"arize": "on"},
        {"ownr": "a@b.c"},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ModelSettings(**wrong)  # type: ignore[arg-type]
