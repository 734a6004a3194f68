"""Results from disk, whatever wrote them: the folder of `dap bench run` or `dap eval`, or an episode table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_json
from .compare import ResultSet
from .episodes import read_episodes
from .store import PLAN_FILE, open_results

TABLE = "episodes.parquet"
_CONFIG = "config.json"


def read_result_set(path: Path) -> ResultSet:
    """The result set in a folder or a Parquet file.

    Raises:
        UserError: there is none, or it is truncated; the line names the file.
    """
    if path.is_file():
        return _of_table(path, path)
    if (path / PLAN_FILE).exists():
        found = open_results(path)
        if not found.episodes:
            raise UserError(f"{path} has no finished episodes yet; run `dap bench run` to its end")
        sizes = image_sizes(found.plan.get("policies") or [])
        limit = found.plan["settings"].get("max_steps")
        return ResultSet(str(path), found.episodes, sizes, limit, len(found.missing))
    if (path / TABLE).exists():
        return _of_table(path, path / TABLE)
    if not path.exists():
        raise UserError(f"{path} does not exist; give a results folder or a Parquet file of episodes")
    raise UserError(f"{path} holds no results: there is neither {PLAN_FILE} nor {TABLE} in it")


def image_sizes(policies: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The sides in pixels of the images that policies were evaluated with, in words, by the policies' names.

    Of a policy that does not record its `image_size`, the checkpoint's configuration tells, if it is still there; what
    is not known is left out.
    """
    found: dict[str, set[str]] = {}
    for policy in policies:
        sizes = found.setdefault(policy["name"], set())
        config = Path(str(policy.get("path") or policy.get("checkpoint") or "")) / _CONFIG
        if policy.get("image_size") is not None:
            sizes |= {*str(policy["image_size"]).split(", ")}
        elif config.is_file():
            features = read_json(config).get("input_features") or {}
            sizes |= {
                str(feature["shape"][-1]) for feature in features.values() if feature.get("type") == "VISUAL"
            }
    return {name: ", ".join(sorted(sizes)) for name, sizes in found.items() if sizes}


def _of_table(path: Path, table: Path) -> ResultSet:
    """The episodes of a table, with what the results.json beside it says of them."""
    episodes = read_episodes(table)
    results = table.parent / "results.json"
    content = read_json(results) if results.is_file() else None
    meta = content.get("meta", {}) if isinstance(content, dict) else {}
    return ResultSet(str(path), episodes, image_sizes(meta.get("policies") or []), meta.get("max_steps"))
