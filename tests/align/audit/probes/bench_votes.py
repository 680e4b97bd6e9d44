"""How often the probe of votes finds biased annotators and accuses honest ones, over simulated crowds. No test; run by hand::

    python tests/align/audit/probes/bench_votes.py --crowds 400 --json votes.json

Crowds of 20 annotators with 150 votes each; 2 of them are biased on a fifth of their pairs (``crowds.make_crowd`` says how).
Seeds are apart from those that the test was designed on. Intervals are Wilson's at 95 %; "found" counts annotators, 2 a crowd.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from scipy import stats

from align.io import write_json

sys.path.insert(0, str(Path(__file__).parent))

DESIGNS: dict[str, dict[str, Any]] = {
    "biased both ways, 3 votes a pair": {},
    "biased both ways, 2 votes a pair": {"overlap": 2},
    "biased both ways, 5 votes a pair": {"overlap": 5},
    "harsh to one group, 3 votes a pair": {"kind": "harsh"},
    "half as strong, 3 votes a pair": {"share": 0.1},
    "three pairs in ten are twins": {"twin_share": 0.3},
    "biased both ways, some annotators careless": {"lapses": 0.2},
    "biased both ways, some annotators strict": {"strict": 0.2},
    "nobody is biased, 3 votes a pair": {"num_biased": 0},
    "nobody is biased, 2 votes a pair": {"num_biased": 0, "overlap": 2},
    "nobody is biased, some annotators careless": {"num_biased": 0, "lapses": 0.2},
    "nobody is biased, some annotators strict": {"num_biased": 0, "strict": 0.2},
}


def measure(num_crowds: int, design: dict[str, Any], first_seed: int) -> dict[str, Any]:
    """Share of biased annotators found, and of crowds in which anybody honest is accused."""
    from crowds import find_biased, make_crowd

    found = biased = accused = 0
    for seed in range(first_seed, first_seed + num_crowds):
        votes, group, names = make_crowd(seed, **design)
        named = find_biased(votes, group)
        found, biased, accused = found + len(named & names), biased + len(names), accused + bool(named - names)
    return {"found": _share(found, biased), "accused": _share(accused, num_crowds)}


def _share(count: int, total: int) -> dict[str, float | int] | None:
    if not total:
        return None
    interval = stats.binomtest(count, total).proportion_ci(0.95, method="wilson")
    return {"value": count / total, "low": float(interval.low), "high": float(interval.high), "n": total}


def main() -> None:
    """Print a line a design; write all figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crowds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=700_000)
    parser.add_argument("--only", default="", help="designs whose name holds this")
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    figures = {}
    for name, design in DESIGNS.items():
        if options.only not in name:
            continue
        figures[name] = measure(options.crowds, design, options.seed)
        parts = [
            f"{key} {rate['value']:.3f} ({rate['low']:.3f} to {rate['high']:.3f}, n {rate['n']})"
            for key, rate in figures[name].items()
            if rate
        ]
        sys.stdout.write(f"{name}: {'; '.join(parts)}\n")
        sys.stdout.flush()
    if options.json:
        write_json(options.json, {"crowds": options.crowds, "seed": options.seed, "figures": figures})


if __name__ == "__main__":
    main()
