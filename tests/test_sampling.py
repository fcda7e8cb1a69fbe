"""Sampling keeps the same keys everywhere, in the share that was asked for."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_publisher import dropped, envelopes, stored

from weighbridge import EnvelopePublisher
from weighbridge.sampling import VARIABLE, Sampling, Share

KEYS = {
    "numbers": [str(i) for i in range(20_000)],
    "envelope ids": [f"0123456789abcdef-{i}" for i in range(20_000)],
    "emails": [f"user{i * 7919 % 20_011}@example.com" for i in range(20_000)],
}


def share(model_id: str, rate: float) -> Share:
    found = Sampling({"*": rate}).share(model_id)
    assert found is not None
    return found


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_the_share_that_is_kept_is_the_rate(keys: str, rate: float) -> None:
    for model_id in ("flight-delay", "m", "payment-fraud"):
        kept = sum(map(share(model_id, rate).keeps, KEYS[keys]))
        spread = (20_000 * rate * (1 - rate)) ** 0.5
        assert abs(kept - 20_000 * rate) < 5 * spread


@pytest.mark.parametrize("keys", KEYS)
def test_models_choose_independently(keys: str) -> None:
    one, other = share("flight-delay", 0.5), share("payment-fraud", 0.5)
    both = sum(one.keeps(key) and other.keeps(key) for key in KEYS[keys])
    assert abs(both - 5000) < 5 * (20_000 * 0.25 * 0.75) ** 0.5


@given(st.text(st.characters()), st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_larger_share_holds_the_smaller_one(key: str, one: float, other: float) -> None:
    small, large = share("m", min(one, other)), share("m", max(one, other))
    assert large.keeps(key) or not small.keeps(key)


def test_the_formula_of_the_docs() -> None:
    """What another language has to compute."""
    assert share("flight-delay", 0.25) == Share(1 << 62, 0xDE85B53E2E667BF3, 0x92E5CB2C648AA7E5)
    assert [key for key in "abcdefgh" if share("flight-delay", 0.25).keeps(key)] == ["d", "f"]


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"a": 1.5}, "sample: the rate of a is not from 0 to 1"),
        ({"a": "0.5"}, "sample: the rate of a is not from 0 to 1"),
        ({"*": float("nan")}, r"sample: the rate of \* is not from 0 to 1"),
    ],
)
def test_rates_that_are_none(tmp_path: Path, rates: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EnvelopePublisher(tmp_path, sample=rates)


@pytest.mark.parametrize("text", ["0.5", "a=", "=0.5", "a:0.5", "a=b"])
def test_a_variable_that_says_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match="WEIGHBRIDGE_SAMPLE: write model=rate, such as flight"):
        EnvelopePublisher(tmp_path)


def test_predictions_and_actuals_of_a_key_stay_together(tmp_path: Path) -> None:
    rates: Mapping[str, float] = {"flights": 0.3, "*": 1}
    service = EnvelopePublisher(tmp_path / "service", sample=rates)
    labeller = EnvelopePublisher(tmp_path / "labeller", sample=rates)
    for i in range(300):
        key = f"flight {i}"
        service.capture("flights", b"%d" % i, b"2", sampling_key=key)
        service.capture("other", b"%d" % i, b"2")
        labeller.capture_actual("flights", b"%d" % i, sampling_key=key)
        labeller.capture_actual("flights", b"whole %d" % i)
    for publisher in (service, labeller):
        publisher.close()
    kept = {
        (one["model_id"], one["request"])
        for one in envelopes(stored(tmp_path / "service")).values()
    }
    actuals = {one["request"] for one in envelopes(stored(tmp_path / "labeller")).values()}
    flights = {request for model, request in kept if model == "flights"}
    assert 50 < len(flights) < 130
    assert sum(model == "other" for model, _ in kept) == 300
    assert {one for one in actuals if not one.startswith(b"whole")} == flights
    assert sum(one.startswith(b"whole") for one in actuals) == 300
    counts = service.stats()["models"]["flights"]
    assert (counts["served"], counts["sampled_out"]) == (300, 300 - len(flights))
    assert service.stats()["models"]["other"]["sampled_out"] == 0


def test_without_a_key_the_envelope_id_decides(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(tmp_path, sample={"flights": 0.5})
    ids = [publisher.capture("flights", b"1", b"2") for _ in range(200)]
    assert dropped(publisher) == {}
    assert set(envelopes(stored(tmp_path))) == {
        one for one in ids if share("flights", 0.5).keeps(one)
    }


def test_a_rate_of_0_keeps_nothing(tmp_path: Path) -> None:
    publisher = EnvelopePublisher(tmp_path, sample={"*": 0})
    publisher.capture("flights", b"1", b"2")
    assert dropped(publisher) == {}
    assert publisher.stats()["sampled_out"] == 1


def test_the_environment_of_a_process(tmp_path: Path) -> None:
    program = """
import sys
from weighbridge import EnvelopePublisher
publisher = EnvelopePublisher(sys.argv[1])
for i in range(100):
    publisher.capture("flights", b"1", b"2", sampling_key=str(i))
publisher.close()
print(publisher.stats()["sampled_out"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={VARIABLE: " flights = 0.5 , *=1"},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = sum(not share("flights", 0.5).keeps(str(i)) for i in range(100))
    assert int(done.stdout) == expected
    assert 30 < expected < 70
