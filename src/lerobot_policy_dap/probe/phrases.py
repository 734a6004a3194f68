"""Measurements as plain words: the same sentences in probe.json, on the terminal and in the report."""

from __future__ import annotations

from collections.abc import Sequence

from ..bench.words import counted, listed
from .records import Estimate, Harm, ProbeCell, ProbedPolicy, Verdict
from .request import ALL_CAMERAS

__all__ = [
    "HARMS",
    "SHORT_VERDICTS",
    "VERDICTS",
    "camera",
    "cell",
    "condition",
    "distance",
    "listed",
    "sigma",
    "signed",
    "summary",
]

VERDICTS: dict[Verdict, str] = {
    "none": "does not move at all",
    "beyond": "moves more than its own spread",
    "within": "moves less than its own spread",
    "unclear": "not distinguishable from its own spread",
    "no spread": "moves; it has no spread of its own",
}
SHORT_VERDICTS: dict[Verdict, str] = {
    "none": "does not move",
    "beyond": "more",
    "within": "less",
    "unclear": "not distinguishable",
    "no spread": "no spread",
}
HARMS: dict[Harm, str] = {
    "farther": "farther from the demonstration",
    "closer": "closer to the demonstration",
    "not established": "no change of the error established",
}


def condition(factor: str, severity: int) -> str:
    """ "lower contrast 3"."""
    return f"{factor.replace('_', ' ')} {severity}"


def camera(name: str) -> str:
    """A camera without the prefix that all have: "wrist", or "all cameras"."""
    return "all cameras" if name == ALL_CAMERAS else name.removeprefix("observation.").removeprefix("images.")


def distance(value: Estimate) -> str:
    """ "1.43 σ [1.20, 1.66]"."""
    return f"{value['estimate']:.2f} σ [{value['low']:.2f}, {value['high']:.2f}]"


def sigma(value: float) -> str:
    """A distance without its unit: "1.43"."""
    return f"{value:.2f}"


def signed(value: float) -> str:
    """ "+0.12", "-0.30", and "0.00" for what rounds to it."""
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}"


def cell(cell: ProbeCell) -> str:
    """What one cell says, as a sentence."""
    where = f"{cell['policy']} under {condition(cell['factor'], cell['severity'])} on {camera(cell['camera'])}"
    harm = cell["harm"]
    return (
        f"{where}: {VERDICTS[cell['verdict']]} ({distance(cell['moved'])} against {cell['spread']['estimate']:.2f} σ); "
        f"{HARMS[cell['harm_verdict']]} ({signed(harm['estimate'])} σ [{signed(harm['low'])}, {signed(harm['high'])}])."
    )


def summary(policy: ProbedPolicy, cells: Sequence[ProbeCell]) -> str:
    """A policy in three sentences: what moves it most, what is more than noise, and where that leads."""
    together = [cell for cell in cells if cell["camera"] == ALL_CAMERAS]
    most = max(together, key=lambda cell: cell["moved"]["estimate"])
    spread = (
        "it has no spread of its own"
        if policy["deterministic"]
        else f"its own spread is {policy['spread']['estimate']:.2f} σ"
    )
    moving = [cell for cell in together if cell["verdict"] in ("beyond", "no spread")]
    unclear = [cell for cell in together if cell["verdict"] == "unclear"]
    farther = [cell for cell in together if cell["harm_verdict"] == "farther"]
    worst = condition(most["factor"], most["severity"])
    text = (
        f"{policy['name']} moves most under {worst}, by {distance(most['moved'])}; "
        f"{spread}, and on clean frames it plans {policy['error']['estimate']:.2f} σ from the demonstration."
    )
    if policy["deterministic"]:
        text += f" It moves under {len(moving)} of {counted(len(together), 'condition')}"
    else:
        text += f" It moves more than its own spread under {len(moving)} of {counted(len(together), 'condition')}"
        if unclear:
            text += f", and under {len(unclear)} the movement is not distinguishable from that spread"
    return f"{text}; {len(farther)} take it farther from the demonstration."
