"""Bodies of a service that ranks items for a user: what is sent to it, and what it answers."""

from __future__ import annotations

import random
from typing import Any

import orjson

COUNTRIES = ["us", "de", "fr", "jp", "br", "in", "gb", "ca"]
SEGMENTS = ["new", "returning", "vip", "churned"]
WRONG_SCORES: list[Any] = [1.5, "0.5", None]
"""Above the limit, of another type, missing: each makes its envelope a dead letter."""


def request_and_response(
    rng: random.Random, model_id: str, rows: int, bad: bool, padding: int = 0
) -> tuple[bytes, bytes]:
    """One request of so many items and its response as JSON; a bad one has a score that is none.

    Padding is text in the request that no extractor looks at; zstd makes half of it.
    """
    request_id = f"{rng.getrandbits(128):032x}"
    items = [_item(rng) for _ in range(rows)]
    answers = [_answer(rng, item["item_id"]) for item in items]
    if bad:
        rng.choice(answers)["score"] = rng.choice(WRONG_SCORES)
    request: dict[str, Any] = {
        "request_id": request_id,
        "surface": "home_feed",
        "experiment": {"name": "exp-42", "arm": "treatment_b"},
        "user": _user(rng),
        "items": items,
        "debug": {
            "trace_id": f"{rng.getrandbits(128):032x}",
            "sdk": "python-3.11/feed-1.4.2",
            "host": "serving-7f9c6d-xk2lp",
            "flags": ["new_ranker", "cold_start_off", "eu_privacy"],
            "client": {"app": "14.2.1", "os": "18.1", "tz": "Europe/Berlin"},
        },
    }
    if padding:
        request["notes"] = rng.randbytes(padding // 2).hex()
    response = {
        "request_id": request_id,
        "model": {"id": model_id, "version": "2025-10-01.3"},
        "latency_ms": round(rng.random() * 20, 3),
        "predictions": answers,
    }
    return orjson.dumps(request), orjson.dumps(response)


def _user(rng: random.Random) -> dict[str, Any]:
    return {
        "user_id": f"u{rng.randrange(10**8):08}",
        "country": rng.choice(COUNTRIES),
        "device": rng.choice(["ios", "android", "web"]),
        "segment": rng.choice(SEGMENTS),
        "locale": "en_US" if rng.random() < 0.9 else None,
        "age_days": rng.randrange(4000),
        "orders_90d": rng.randrange(40),
    }


def _item(rng: random.Random) -> dict[str, Any]:
    return {
        "item_id": f"it{rng.randrange(10**7):07}",
        "price": round(rng.random() * 100, 2),
        "ctr_7d": round(rng.random() * 0.1, 5),
        "distance_km": None if rng.random() < 0.1 else round(rng.random() * 50, 3),
        "views_7d": rng.randrange(100_000),
    }


def _answer(rng: random.Random, item_id: str) -> dict[str, Any]:
    score = round(rng.random(), 6)
    return {"item_id": item_id, "score": score, "label": "click" if score > 0.5 else "skip"}
