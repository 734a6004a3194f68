"""Counters of a server, in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_KINDS = {
    "requests_total": ("counter", "Requests, by whether they were answered with actions."),
    "refusals_total": ("counter", "Refused requests and handshakes, by reason."),
    "actions_limited_total": ("counter", "Numbers in actions that broke a limit, by limit."),
    "monitored_total": ("counter", "Chunks that the monitor judged, by whether its alarm was on."),
    "alarms_total": ("counter", "Episodes in which the monitor raised an alarm."),
    "reloads_total": ("counter", "Checkpoints looked at while serving, by outcome."),
    "connections_total": ("counter", "Connections accepted."),
    "connections": ("gauge", "Connections open now."),
    "healthy": ("gauge", "1 while the model answers, 0 while a call of it stalls or the server drains."),
    "model_info": ("gauge", "1, labelled with the policy and the hash of its weights."),
    "inference_seconds": ("histogram", "Seconds of one call of the model."),
    "request_seconds": ("histogram", "Seconds from a request's last byte to its answer."),
    "batch_size": ("histogram", "Requests answered by one call of the model."),
}
_BUCKETS = {"inference_seconds": _SECONDS, "request_seconds": _SECONDS, "batch_size": (1, 2, 4, 8, 16, 32, 64)}

_Labels = tuple[tuple[str, str], ...]


class Metrics:
    """What the server counts; its names are those of `_KINDS`, on the wire with `dap_` before them."""

    def __init__(self) -> None:
        self._values: dict[str, dict[_Labels, float]] = defaultdict(dict)
        self._histograms = {name: [0] * (len(buckets) + 1) for name, buckets in _BUCKETS.items()}
        self._sums = dict.fromkeys(_BUCKETS, 0.0)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Raises a counter, or moves a gauge."""
        key = tuple(sorted(labels.items()))
        self._values[name][key] = self._values[name].get(key, 0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Sets a gauge, and forgets its other labels."""
        self._values[name] = {tuple(sorted(labels.items())): value}

    def observe(self, name: str, value: float) -> None:
        """Adds one measurement to a histogram."""
        index = next((i for i, upper in enumerate(_BUCKETS[name]) if value <= upper), len(_BUCKETS[name]))
        self._histograms[name][index] += 1
        self._sums[name] += value

    def value(self, name: str, **labels: str) -> float:
        """A counter or gauge now."""
        return self._values[name].get(tuple(sorted(labels.items())), 0)

    def text(self) -> str:
        """All of it, for `/metrics`."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for name, (kind, description) in _KINDS.items():
            yield f"# HELP dap_{name} {description}"
            yield f"# TYPE dap_{name} {kind}"
            if kind != "histogram":
                for labels, value in sorted(self._values[name].items()):
                    yield f"dap_{name}{_braces(labels)} {value:.15g}"
                continue
            below = 0
            for upper, count in zip((*_BUCKETS[name], "+Inf"), self._histograms[name], strict=True):
                below += count
                yield f'dap_{name}_bucket{{le="{upper}"}} {below}'
            yield f"dap_{name}_sum {self._sums[name]:.15g}"
            yield f"dap_{name}_count {below}"


def _braces(labels: _Labels) -> str:
    quoted = (value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for _, value in labels)
    pairs = ",".join(f'{name}="{value}"' for (name, _), value in zip(labels, quoted, strict=True))
    return f"{{{pairs}}}" if pairs else ""
