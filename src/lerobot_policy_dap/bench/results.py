"""From episodes to results: what broke under shift, and what that does and does not establish."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .alarms import alarms_of
from .caveats import caveats
from .comparisons import cells_of, differences_of, drops_of
from .episodes import Episode
from .findings import summary
from .means import means_of
from .pairing import Pairing
from .records import SCHEMA_VERSION, Results


def summarise(episodes: Iterable[Episode], meta: Mapping[str, Any]) -> Results:
    """All numbers of the report, as JSON without NaN.

    Two members of a pair are compared on the training seeds and seeds that both have; a condition that has none in
    common with another is left out of that comparison. With several training seeds, intervals of differences are
    those of the hierarchical bootstrap (`hierarchy.hierarchical_mean`) and hold the luck of training.

    A cell is `at_floor` when the interval of its paired difference from the policy's own blind episodes
    (common seeds) does not lie above zero: success there may owe nothing to the images, so neither a small drop
    nor a difference of such cells is a sign of robustness. It is None when the policy has no blind episodes on
    these seeds, and for the blind cell itself.

    p values are adjusted by Holm within the family of one question: the cells of one policy and task; the cells of
    one pair of policies and task; and for means, see `means.means_of`. Anything is `established` when its adjusted
    p is at most 0.05 and its 95% interval excludes zero.

    The policy named "expert" is a control: it is measured like any other, and compared with none.

    Args:
        episodes: of any number of policies, training seeds and tasks; `policy`, `training_seed`, `task`,
            `shift`, `severity` and `seed` together occur once.
        meta: passed through. Its "policies" and "shifts" (lists of mappings with a "name") set the order. A shift
            that is "physical" there is kept out of the means over factors.

    Raises:
        UserError: no episodes, a repeated episode, mixed software versions, or one policy name for two
            checkpoints.
    """
    episodes = list(episodes)
    pairing = Pairing(episodes, meta)
    cells = cells_of(pairing)
    results: Results = {
        "schema": SCHEMA_VERSION,
        "meta": _jsonable(meta),
        "summary": [],
        "cells": cells,
        "drops": drops_of(pairing),
        "differences": differences_of(pairing, cells),
        "means": means_of(pairing),
        "alarms": alarms_of(episodes),
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
