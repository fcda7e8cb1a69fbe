"""What each model must keep to. A new one needs golden cases, and no code here."""

import pickle
from pathlib import Path

import pytest

from extractors import load_extractors
from extractors.testing import golden_cases

PACKAGE = "acme_models"
GOLDEN = Path(__file__).parent / "golden"
REGISTERED = load_extractors(PACKAGE)
CASES = list(golden_cases(GOLDEN))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_its_golden_cases_give_the_expected_rows(case) -> None:
    assert case.given(REGISTERED) == case.expected()


@pytest.mark.parametrize("model", REGISTERED, ids="-".join)
def test_it_has_an_owner_and_a_golden_case(model) -> None:
    assert "@acme.example" in REGISTERED[model].settings.owner
    kinds = {(case.model_id, case.envelope().kind) for case in CASES}
    assert model in kinds, f"add one below {GOLDEN / model[0]}"


@pytest.mark.parametrize("model", REGISTERED, ids="-".join)
def test_it_travels_to_workers_by_name(model) -> None:
    function = REGISTERED[model].function
    assert pickle.loads(pickle.dumps(function)) is function
    assert function.__module__.startswith(f"{PACKAGE}.")
