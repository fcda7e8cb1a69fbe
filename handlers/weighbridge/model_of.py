"""Which model a request is for: named by a header, by the path, or by a function of the service."""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
INFERENCE_PATHS = (
    "/v1/models/{model}:predict",
    "/v2/models/{model}/infer",
    "/v2/models/{model}/versions/{version}/infer",
)
"""KServe's first protocol, and the Open Inference Protocol."""
_MODEL_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_FOREIGN = re.compile(r"[^a-z0-9_-]")


class Model(NamedTuple):
    """A model as a request names it."""

    id: str
    version: str = ""


ModelOf: TypeAlias = Callable[[Scope], str | Model | None]
"""From the scope of a request to its model; None: the request is not captured."""


def from_header(name: str) -> Callable[[Scope], str | None]:
    """The value of a request header; None where it is missing or empty."""
    wanted = name.lower().encode("latin-1")

    def of(scope: Scope) -> str | None:
        for key, value in scope["headers"]:
            if key == wanted:
                return str(value, "latin-1") or None
        return None

    return of


def from_path(*templates: str, model: str = "") -> Callable[[Scope], Model | None]:
    """What stands in the path for `{model}`, and for `{version}` if that is there.

    Args:
        templates: such as "/predict/{model}"; the first that fits the whole path counts. Without
            any, `INFERENCE_PATHS`. Other names in braces stand for any part between slashes.
        model: the model of templates that have no `{model}`.

    Raises:
        ValueError: a template without `{model}`, and no `model`.
    """
    for template in templates:
        if not model and "{model}" not in template:
            raise ValueError(f"{template} has no {{model}}, and model= is not given either")
    patterns = [_pattern(template).fullmatch for template in templates or INFERENCE_PATHS]

    # A service answers at a few paths, and has a look-up for a tenth of what the patterns take.
    @lru_cache(maxsize=1024)
    def named(path: str, root: str) -> Model | None:
        # Servers and frameworks differ in whether the path of a mounted app has its root in front.
        paths = [path]
        if root and path.startswith(f"{root}/"):
            paths.insert(0, path[len(root) :])
        for matches in patterns:
            for one in paths:
                if found := matches(one):
                    parts = found.groupdict()
                    return Model(parts.get("model", model), parts.get("version", ""))
        return None

    return lambda scope: named(scope["path"], scope.get("root_path") or "")


def first_of(*functions: ModelOf) -> ModelOf:
    """What the first function says that does not say None."""

    def of(scope: Scope) -> str | Model | None:
        for function in functions:
            if (found := function(scope)) is not None:
                return found
        return None

    return of


@lru_cache(maxsize=1024)
def model_id_of(name: str) -> str:
    """The id under which a model of this name is captured.

    In lower case, and with `-` for what no id may hold: `Fraud.v2` becomes `fraud-v2`. A name that
    gives no id even so stays as it is; the pipeline keeps its envelopes as dead letters of stage
    `route`.
    """
    if _MODEL_ID.fullmatch(name):
        return name
    spelled = _FOREIGN.sub("-", name.lower())
    return spelled if _MODEL_ID.fullmatch(spelled) else name


def _pattern(template: str) -> re.Pattern[str]:
    literals = re.split(r"\{(\w+)\}", template)
    names = [f"(?P<{part}>[^/]+)" if i % 2 else re.escape(part) for i, part in enumerate(literals)]
    return re.compile("".join(names))
