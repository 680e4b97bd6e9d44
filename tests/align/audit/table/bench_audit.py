"""How often the audit is right, measured on simulated tables whose truth is known. Not a test; run it by hand::

    python tests/align/audit/table/bench_audit.py --audits 1000 --json figures.json

Tables have 128 contexts of 8 rollouts (ICC 0.2) by default. Reported, with their own Monte Carlo error:

- false alarms: share of null audits (several outcomes and attributes, crossed ones too) with any violation; nominal alpha;
- coverage: share of intervals of gaps that hold the true gap, by base rate and design; nominal 95 %;
- power: share of audits that find a planted gap of the size which the audit itself calls its smallest detectable; nominal 80 %.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from align.audit.policy import Policy
from align.audit.table.audit import audit_table
from align.audit.table.groups import understand
from align.io import write_json

Draw = Callable[[np.random.Generator, float, float], pd.DataFrame]


def draw_crossed(contexts: int, size: int, icc: float) -> Draw:
    """Groups vary within contexts."""

    def draw(rng: np.random.Generator, base: float, gap: float) -> pd.DataFrame:
        index = np.repeat(np.arange(contexts), size)
        groups = rng.choice(["a", "b"], len(index))
        return _outcomes(rng, index, groups, base, gap, icc)

    return draw


def draw_nested(contexts: int, size: int, icc: float) -> Draw:
    """Every context belongs to one group."""

    def draw(rng: np.random.Generator, base: float, gap: float) -> pd.DataFrame:
        index = np.repeat(np.arange(contexts), size)
        return _outcomes(rng, index, np.where(index % 2, "a", "b"), base, gap, icc)

    return draw


def draw_twins(contexts: int, size: int, icc: float) -> Draw:
    """Twins with common random numbers: one uniform number decides both sides in half of the pairs."""

    def draw(rng: np.random.Generator, base: float, gap: float) -> pd.DataFrame:
        index = np.repeat(np.arange(contexts), size // 2)
        rate = _rates(rng, contexts, base, icc)[index]
        u, v = rng.random((2, len(index)))
        v = np.where(rng.random(len(index)) < 0.5, u, v)
        pairs = np.arange(len(index))
        sides = [("a", u < rate), ("b", v < np.clip(rate + gap, 0, 1))]
        rows = [pd.DataFrame({"context_id": index, "pair": pairs, "group": g, "bumped": hit.astype(float)}) for g, hit in sides]
        return pd.concat(rows, ignore_index=True)

    return draw


def _rates(rng: np.random.Generator, contexts: int, base: float, icc: float) -> np.ndarray:
    scale = (1 - icc) / icc
    return np.asarray(rng.beta(base * scale, (1 - base) * scale, contexts))


def _outcomes(
    rng: np.random.Generator, index: np.ndarray, groups: np.ndarray, base: float, gap: float, icc: float
) -> pd.DataFrame:
    rate = np.clip(_rates(rng, int(index.max()) + 1, base, icc)[index] + gap * (groups == "b"), 0, 1)
    return pd.DataFrame({"context_id": index, "group": groups, "bumped": (rng.random(len(index)) < rate).astype(float)})


def audit(frame: pd.DataFrame, policy: Policy, attributes: list[str], outcomes: list[str], seed: int) -> dict[str, Any]:
    pair = "pair" if "pair" in frame else ""
    table = understand(frame, policy, pair=pair, attributes=attributes, outcomes=outcomes)
    return audit_table(table, policy, seed=seed, num_resamples=400)


def true_gap(draw: Draw, base: float, gap: float) -> float:
    """What clipping at 0 and 1 leaves of a planted gap, from a large sample."""
    frames = [draw(np.random.default_rng(seed), base, gap) for seed in range(900, 1300)]
    means = pd.concat(frames).groupby("group")["bumped"].mean()
    return float(means["b"] - means["a"])


def share(hits: list[bool]) -> dict[str, float]:
    mean = float(np.mean(hits))
    return {"share": mean, "error": math.sqrt(mean * (1 - mean) / len(hits)), "n": len(hits)}


def false_alarms(draw: Draw, base: float, audits: int) -> dict[str, float]:
    """Null audits of 4 outcomes and 3 attributes, crossed by twos."""
    alarms = []
    for seed in range(audits):
        rng = np.random.default_rng([seed, 1])
        frame = draw(rng, base, 0.0)
        for number in range(3):
            frame[f"other{number}"] = draw(rng, base, 0.0)["bumped"]
        frame["light"] = rng.choice(["dim", "lit", "off"], len(frame))
        frame["room"] = np.where(pd.factorize(frame["context_id"])[0] % 3 == 0, "blue", "red")
        outcomes = ["bumped", *(f"other{number}" for number in range(3))]
        report = audit(frame, Policy(max_gap=1e-6), ["group", "light", "room"], outcomes, seed)
        alarms.append(report["verdict"] == "violation")
    return share(alarms)


def coverage(draw: Draw, base: float, gap: float, audits: int) -> dict[str, float]:
    truth, hits = true_gap(draw, base, gap), []
    for seed in range(audits):
        report = audit(draw(np.random.default_rng([seed, 2]), base, gap), Policy(), ["group"], ["bumped"], seed)
        found = next(finding["gap"] for finding in report["findings"] if finding["kind"] == "gap")
        hits.append(found["low"] <= truth <= found["high"])
    return share(hits)


def power(draw: Draw, base: float, audits: int) -> dict[str, float]:
    """At 20 tests (alpha / 20) a gap as large as what an audit of other, null rollouts calls its smallest detectable."""
    policy, found, planted = Policy(alpha=0.05 / 20), [], []
    for seed in range(audits):
        null = audit(draw(np.random.default_rng([seed, 3]), base, 0.0), policy, ["group"], ["bumped"], seed)
        gap = next(finding["smallest_detectable"] for finding in null["findings"] if finding["kind"] == "gap")
        report = audit(draw(np.random.default_rng([seed, 4]), base, gap), policy, ["group"], ["bumped"], seed)
        found.append(next(f["adjusted_p_value"] for f in report["findings"] if f["kind"] == "gap") <= policy.alpha)
        planted.append(gap)
    return {**share(found), "planted": float(np.mean(planted))}


def measure(kinds: list[str], audits: int, contexts: int, size: int, icc: float) -> Iterator[tuple[str, dict[str, float]]]:
    designs = {"crossed": draw_crossed, "nested": draw_nested, "twins": draw_twins}
    for name, make in designs.items():
        draw = make(contexts, size, icc)
        for base in (0.2, 0.02):
            if "alarms" in kinds:
                yield f"false alarms, {name}, base {base:g}", false_alarms(draw, base, audits)
            for gap in (0.0, 0.1) if "coverage" in kinds else ():
                yield f"coverage, {name}, base {base:g}, gap {gap:g}", coverage(draw, base, gap, audits)
            if "power" in kinds:
                yield f"power, {name}, base {base:g}", power(draw, base, audits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["alarms", "coverage", "power"])
    parser.add_argument("--audits", type=int, default=20)
    parser.add_argument("--contexts", type=int, default=128)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--icc", type=float, default=0.2)
    parser.add_argument("--json")
    wishes = parser.parse_args()
    figures = {}
    for name, figure in measure(wishes.kinds, wishes.audits, wishes.contexts, wishes.size, wishes.icc):
        figures[name] = figure
        planted = f", planted {100 * figure['planted']:.1f} points" if "planted" in figure else ""
        line = f"{name}: {100 * figure['share']:.1f} % +- {100 * figure['error']:.1f} (n = {figure['n']}{planted})"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    if wishes.json:
        write_json(wishes.json, figures)


if __name__ == "__main__":
    main()
