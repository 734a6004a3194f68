"""From episodes to results: what broke under shift, and what that does and does not establish."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .comparisons import cells_of, differences_of, drops_of, overall_of
from .episodes import Episode
from .findings import caveats, summary
from .pairing import Pairing
from .records import SCHEMA_VERSION, Results


def summarise(episodes: Iterable[Episode], meta: Mapping[str, Any]) -> Results:
    """All numbers of the report, as JSON without NaN.

    Two members of a pair are compared on the seeds that both have; a condition that has none in common with
    another is left out of that comparison.

    A cell is `at_floor` when the interval of its paired difference from the policy's own blind episodes
    (`paired_difference`, common seeds) does not lie above zero: success there may owe nothing to the images, so
    neither a small drop nor a difference of such cells is a sign of robustness. It is None when the policy has
    no blind episodes on these seeds, and for the blind cell itself.

    p values are adjusted by Holm within two families: all drops, and all differences. A difference is
    `established` when its adjusted p is at most 0.05 and its interval excludes zero; an overall difference,
    when its interval at level 1 - 0.05 / (number of overall differences) excludes zero (Bonferroni).

    Args:
        episodes: of any number of policies and tasks; `policy`, `task`, `shift`, `severity` and `seed` together
            occur once.
        meta: passed through. Its "policies" and "shifts" (lists of mappings with a "name") set the order, and
            the "type", "coupling" and "train_seed" of policies decide the caveat on training seeds.

    Raises:
        UserError: no episodes, a repeated episode, mixed software versions, or one policy name for two
            checkpoints.
    """
    pairing = Pairing(episodes, meta)
    cells = cells_of(pairing)
    results: Results = {
        "schema": SCHEMA_VERSION,
        "meta": _jsonable(meta),
        "summary": [],
        "cells": cells,
        "drops": drops_of(pairing),
        "differences": differences_of(pairing, cells),
        "overall": overall_of(pairing),
        "caveats": [],
    }
    results["summary"] = summary(results)
    results["caveats"] = caveats(results)
    return results


def _jsonable(value: Any) -> Any:
    """The value in JSON's types; NaN and infinities, which JSON has not, become None."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
