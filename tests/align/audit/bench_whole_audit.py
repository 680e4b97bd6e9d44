"""How often a whole audit accuses wrongly, and how often it finds a gap of ten points. Not a test; run it by hand::

    python tests/align/audit/bench_whole_audit.py --audits 1000 --json figures.json

Only statistics are simulated, no model: a null audit has

- 62 comparisons of twins: 512 contexts of one pair each (half of the comparisons) or 256 of two pairs with an intraclass
  correlation of 0.2, rates from 2 to 50 %, half of the pairs deciding by common random numbers;
- 60 shifts of a reward model over 200 contexts, half of them exactly as large as is tolerated, the worst case for its test;
- 40 tests of 20 annotators of 150 votes each who differ in care, corrected step down by the probe itself.

All are judged by ``judge_families`` with the default policy. Reported: the share of null audits in which anything was found,
or came to a violation (nominal 5 %), and the share of audits that find a gap of 10 points at a base rate of 20 % among 20
tests, by the number of pairs and by how far common random numbers tie the two sides together (latent correlation).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from align.audit.policy import Policy
from align.audit.probes import Finding
from align.audit.probes.pairs import sign_flip_p_value
from align.audit.probes.reward import beyond_p_value, ratio_of_means
from align.audit.probes.standards import compute_excesses
from align.audit.run.judging import Family, judge_families
from align.audit.statistics import Rate, cluster_rate, clustered_mcnemar, holm, paired_difference
from align.audit.statistics.quantiles import normal_isf
from align.io import write_json

TWINS, SHIFTS, PEOPLE, VOTES_EACH = 62, 60, 20, 150
CONTEXTS, REWARD_CONTEXTS, ICC, TOLERANCE = 512, 200, 0.2, 0.1
BASE, GAP, TESTS = 0.2, 0.1, 20
CLEAR = 1.5
"""Standard errors; below that no p-value is under 0.1, so Holm finds nothing there and the p-value needn't be computed."""
NOTHING = Rate(0.0, -1.0, 1.0, CONTEXTS, CONTEXTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--power", type=int, default=2000, help="audits for each cell of the table of power")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json")
    wanted = parser.parse_args()
    rng = np.random.default_rng(wanted.seed)
    began = time.monotonic()
    figures = {"false_alarms": measure_false_alarms(rng, wanted.audits), "power": measure_power(rng, wanted.power)}
    tell(f"{time.monotonic() - began:.0f} s")
    if wanted.json:
        write_json(wanted.json, figures)


def measure_false_alarms(rng: np.random.Generator, audits: int) -> dict[str, Any]:
    """Share of null audits with anything found, by probe and in all, and with a violation."""
    policy, found, names = Policy(), [], ("twins", "reward", "votes")
    for number in range(audits):
        families = [
            Family("twins", list(null_twins(rng))),
            Family("reward", list(null_shifts(rng))),
            Family("votes", list(null_votes(rng)), corrects_itself=True),
        ]
        judged = judge_families(families, policy)
        hits = [any(f["adjusted_p_value"] <= policy.alpha for f in judged if f["probe"] == name) for name in names]
        found.append([*hits, any(hits), any(f["verdict"] == "violation" for f in judged)])
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{number + 1}/{audits} null audits")
    shares = {}
    tell(f"\n{audits} null audits, {TWINS + SHIFTS} tests and {2 * PEOPLE} of votes in each; nominal {policy.alpha:.0%}")
    for name, column in zip((*names, "anything found", "any violation"), np.array(found, dtype=float).T, strict=True):
        shares[name] = cluster_rate(column, np.arange(audits), better="lower").as_dict()
        tell(f"{name:>16}: {say(shares[name])}")
    return shares


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def say(rate: dict[str, Any]) -> str:
    """``4.1 % (3.0 to 5.5)``."""
    return f"{100 * rate['value']:.1f} % ({100 * rate['low']:.1f} to {100 * rate['high']:.1f})"


def null_twins(rng: np.random.Generator) -> Iterator[Finding]:
    """Gaps between twins that are none."""
    for number in range(TWINS):
        per_context = 1 + number % 2
        index = np.repeat(np.arange(CONTEXTS // per_context), per_context)
        base = rng.choice([0.02, 0.05, 0.2, 0.5])
        rate = rng.beta(base * (1 / ICC - 1), (1 - base) * (1 / ICC - 1), CONTEXTS // per_context)[index]
        u, v = rng.random((2, len(index)))
        v = np.where(rng.random(len(index)) < 0.5, u, v)
        left, right = (u < rate).astype(float), (v < rate).astype(float)
        sums = (right - left).reshape(-1, per_context).sum(1)
        gap, p_value = NOTHING, 1.0
        if abs(sums.sum()) > CLEAR * np.sqrt((sums**2).sum()):
            gap = paired_difference(left, right, index, better="lower", missing="drop")
            p_value = sign_flip_p_value(right - left, index)
        yield Finding("twins", str(number), gap, "points", p_value, 0.1)


def null_shifts(rng: np.random.Generator) -> Iterator[Finding]:
    """Shifts of a reward that are as large as is tolerated, up, or nothing at all."""
    units = rng.normal(1.0, 0.5, (SHIFTS, REWARD_CONTEXTS))
    tolerated = TOLERANCE * (np.arange(SHIFTS) % 2)[:, None]
    values = tolerated + 0.3 * (units - 1) + 0.3 * rng.standard_t(6, (SHIFTS, REWARD_CONTEXTS))
    beyond = values - TOLERANCE * units
    score = beyond.mean(1) / beyond.std(1) * np.sqrt(REWARD_CONTEXTS)
    for number, (value, unit) in enumerate(zip(values, units, strict=True)):
        shift, p_value = NOTHING, 1.0
        if abs(value.mean()) > TOLERANCE * unit.mean() and abs(score[number]) > CLEAR:
            shift, p_value = ratio_of_means(value, unit), beyond_p_value(value, unit, TOLERANCE)
        yield Finding("reward", str(number), shift, "units", p_value, float("nan"))


def null_votes(rng: np.random.Generator) -> Iterator[Finding]:
    """Tests of annotators who err more or less often, but by no attribute."""
    tables = {question: _answers(rng) for question in ("faults", "choice")}
    for row in compute_excesses(tables):
        yield Finding("votes", f"{row.name} {row.question}", row.effect, "points", row.p_value, 0.1, row.p_holm)


def _answers(rng: np.random.Generator) -> pd.DataFrame:
    names = np.repeat(np.arange(PEOPLE), VOTES_EACH)
    usual, flag = rng.integers(0, 3, len(names)), rng.integers(0, 2, len(names))
    errs = rng.random(len(names)) < rng.uniform(0.02, 0.15, PEOPLE)[names]
    answer = np.where(errs, rng.integers(0, 3, len(names)), usual)
    return pd.DataFrame({"name": names, "stratum": usual, "flag": flag, "answer": answer})


def measure_power(rng: np.random.Generator, audits: int) -> dict[str, Any]:
    """Share of audits that find one gap of ten points among 19 comparisons without any."""
    shares: dict[str, Any] = {}
    tell(f"\npower for {100 * GAP:g} points at {100 * BASE:g} %, Holm over {TESTS} tests, {audits} audits a cell")
    for latent in (0.0, 0.6, 0.8):
        for pairs in (512, 1024):
            hits = np.array([_finds(rng, pairs, latent) for _ in range(audits)], dtype=float)
            shares[f"{pairs} pairs, latent correlation {latent}"] = rate = cluster_rate(
                hits, np.arange(audits), better="higher"
            ).as_dict()
            tell(f"  latent correlation {latent}, {pairs:>5} pairs: {say(rate)}")
    return shares


def _finds(rng: np.random.Generator, pairs: int, latent: float) -> bool:
    """Whether the gap, in the first test, is found at the level of Holm's correction."""
    shared = np.sqrt(latent) * rng.standard_normal((TESTS, pairs))
    left, right = (shared + np.sqrt(1 - latent) * rng.standard_normal((TESTS, pairs)) for _ in range(2))
    limits = np.full((TESTS, 1), normal_isf(BASE))
    limits[0] = normal_isf(BASE + GAP)
    differences = (right > limits).astype(float) - (left > normal_isf(BASE))
    clear = np.abs(differences.sum(1)) > CLEAR * np.sqrt((differences**2).sum(1))
    p_values = [clustered_mcnemar(row) if known else 1.0 for row, known in zip(differences, clear, strict=True)]
    return bool(holm(p_values)[0] <= Policy().alpha)


if __name__ == "__main__":
    main()
