"""The report of a run: one JSON file for machines, one self-contained web page for people, one table for the terminal.

The page is made from the JSON and the clips that it names, and from nothing else; it asks no server for anything.

A report is a plain dict (NaN is written as null; `Rate` may stand where a rate dict is asked for):

    version    1
    title      str
    kind       "quickstart" (shows intervals, never a verdict) or "evaluate" (the gates decide)
    summary    [str], the lines below the headline
    figures    [{key, label, unit, scene, axis, base, aligned, difference, better, note, reason_not_measured}]
               key: figures of one key form one table; see `EXPLANATIONS` for the known ones
               unit: "%" for fractions of 1 that are shown as percent, else any unit or ""
               scene, axis: str, either may be "" or missing
               base, aligned, difference: {value, low, high, n, num_clusters, num_missing} or null (not measured); low and
               high are the ends of a 95 % interval, difference is aligned minus base
               better: "lower" or "higher"; note, reason_not_measured, explanation: str, optional
    gates      [{name, passed, text}], passed: true, false or null (not measured; never a pass)
    clips      [{context_id, task, caption, base, aligned, base_says, aligned_says}], base and aligned: paths of H.264 files
               inside the folder; base_sha256, aligned_sha256: checked where given, filled in where not
    curves     [{title, x_label, y_label, series: [{name, x: [number], y: [number or null]}]}]
    provenance {config: {}, versions: {}, seeds, votes_spent: int, votes_simulated: bool, commands: [str], ...}; further
               keys are shown as they are

What is written has one key more: ``verdict``, one of `VERDICTS`. The same report and clips give the same bytes.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.errors import DataError
from align.io import atomic_write, sha256_file, to_jsonable, write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console

REPORT_VERSION = 1
KINDS = ("quickstart", "evaluate")
VERDICTS = ("pass", "fail", "not measured", "no verdict")

EXPLANATIONS = {
    "unsafe": "The model chooses its own actions and the simulator carries them out. This is how often that ends in the "
    "hazard. Nothing learned stands between this figure and the truth.",
    "dreamed": "How often the hazard shows in the model's own dream of the actions it chose, as read by a judge that neither "
    "labelled nor trained anything. It should tell the same story as the simulator.",
    "honesty_careless": "We force careless actions. The dream must still show what follows: the spill, the breakage, the "
    "shove. A model that hides it looks safe and leads whoever plans with it into danger.",
    "honesty_careful": "We force careful actions. The dream must not invent a hazard that did not happen.",
    "honesty": "We force careless actions; the dream must still show the spill. We force careful ones; it must not invent one.",
    "success": "How often the task gets done. A robot that never pours spills nothing, so safety only counts if the work gets "
    "done.",
    "fidelity": "How closely the dream follows what truly happens under the same actions. Tuning what a model does must leave "
    "what it knows about the world as it was.",
}
"""What a figure means, for an outsider; a figure's key picks the longest name here that it starts with."""

_TEXT_FIELDS = ("label", "unit", "scene", "axis", "note", "reason_not_measured", "explanation")
_COLOURS = {"ink": "#010101", "line": "#020202", "base": "#030303", "aligned": "#040404"}
_SERIES = {f"s{i}": f"#0{i}0{i}0{i}" for i in range(5, 10)}


# ------------------------------------------------------------------------------------------------------------- the report


def write_report(folder: str | Path, report: Mapping[str, Any]) -> Path:
    """Write ``report.json`` and ``report.html`` into a folder; both whole or not at all.

    Args:
        folder: Where the files go and what the clips' paths are relative to.
        report: See the module's docstring.

    Returns:
        The path of the page.

    Raises:
        DataError: The report breaks the schema (all problems at once), or a clip is missing or has another hash.
        ClipError: A clip is no video.
    """
    root = Path(folder)
    plain = to_jsonable(report)
    check_report(plain)
    plain["clips"] = [_pin_clip(root, clip) for clip in plain.get("clips", [])]
    plain["verdict"] = compute_verdict(plain)
    page = render_html(root, plain)
    write_json(root / "report.json", plain)
    atomic_write(root / "report.html", page)
    return root / "report.html"


def compute_verdict(report: Mapping[str, Any]) -> str:
    """One of `VERDICTS`. A gate that was not measured is never a pass, and a quickstart is too small for a verdict."""
    passed = [gate["passed"] for gate in report.get("gates", [])]
    if report["kind"] == "quickstart" or not passed:
        return "no verdict"
    if any(state is False for state in passed):
        return "fail"
    return "pass" if all(state is True for state in passed) else "not measured"


def compute_headline(report: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict in a few words and what it rests on in a sentence, for an outsider."""
    gates = report.get("gates", [])
    failed = sum(gate["passed"] is False for gate in gates)
    unmeasured = sum(gate["passed"] is None for gate in gates)
    if report["kind"] == "quickstart":
        return "No verdict at this size", "This run is too small to prove anything: read the intervals, not the points."
    if not gates:
        return "No verdict", "This evaluation held the model against no gate."
    also = f", and {unmeasured} could not be measured" if unmeasured else ""
    return {
        "pass": ("Pass", f"All {len(gates)} gates passed."),
        "fail": ("Fail", f"{failed} of {len(gates)} gates failed{also}."),
        "not measured": ("Not passed", f"{unmeasured} of {len(gates)} gates could not be measured; missing is not a pass."),
    }[compute_verdict(report)]


def check_report(report: Any) -> None:
    """Raise DataError with every way in which a plain dict breaks the schema."""
    if not isinstance(report, dict):
        raise DataError(f"a report must be a mapping, got {type(report).__name__}")
    problems = []
    if report.get("version") != REPORT_VERSION:
        problems.append(f"version must be {REPORT_VERSION}, got {report.get('version')!r}")
    if report.get("kind") not in KINDS:
        problems.append(f"kind must be one of {', '.join(KINDS)}, got {report.get('kind')!r}")
    if not isinstance(report.get("title"), str):
        problems.append("title must be text")
    checks = {"figures": _figure_problems, "gates": _gate_problems, "clips": _clip_problems, "curves": _curve_problems}
    for name, check in checks.items():
        items = report.get(name, [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            problems.append(f"{name} must be a list of mappings")
            continue
        problems += [f"{name}[{i}].{problem}" for i, item in enumerate(items) for problem in check(item)]
    summary = report.get("summary", [])
    if not isinstance(summary, list) or not all(isinstance(line, str) for line in summary):
        problems.append("summary must be a list of lines")
    if not isinstance(report.get("provenance", {}), dict):
        problems.append("provenance must be a mapping")
    if problems:
        raise DataError("the report breaks its schema: " + "; ".join(problems))


def _figure_problems(figure: dict[str, Any]) -> list[str]:
    problems = [f"{name} must be text" for name in ("key", "label", "unit") if not isinstance(figure.get(name), str)]
    problems += [f"{name} must be text" for name in _TEXT_FIELDS if not isinstance(figure.get(name) or "", str)]
    if figure.get("better") not in ("lower", "higher"):
        problems.append(f"better must be 'lower' or 'higher', got {figure.get('better')!r}")
    for name in ("base", "aligned", "difference"):
        rate = figure.get(name)
        if rate is not None and not (isinstance(rate, dict) and {"value", "low", "high", "n"} <= rate.keys()):
            problems.append(f"{name} must be null or hold value, low, high and n")
        elif rate is not None:
            problems += [f"{name}.{key} must be a number or null" for key, v in rate.items() if not _is_number(v)]
    return list(dict.fromkeys(problems))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _gate_problems(gate: dict[str, Any]) -> list[str]:
    problems = [f"{name} must be text" for name in ("name", "text") if not isinstance(gate.get(name), str)]
    if "passed" not in gate or not (gate["passed"] is None or isinstance(gate["passed"], bool)):
        problems.append(f"passed must be true, false or null, got {gate.get('passed', 'nothing')!r}")
    return problems


def _clip_problems(clip: dict[str, Any]) -> list[str]:
    needed = ("context_id", "task", "caption", "base", "aligned", "base_says", "aligned_says")
    return [f"{name} must be text" for name in needed if not isinstance(clip.get(name), str)]


def _curve_problems(curve: dict[str, Any]) -> list[str]:
    problems = [f"{name} must be text" for name in ("title", "x_label", "y_label") if not isinstance(curve.get(name), str)]
    series = curve.get("series")
    if not isinstance(series, list) or not all(isinstance(s, dict) and isinstance(s.get("name"), str) for s in series):
        return [*problems, "series must be a list of {name, x, y}"]
    for line in series:
        x, y = line.get("x"), line.get("y")
        if not (isinstance(x, list) and isinstance(y, list) and len(x) == len(y) and all(map(_is_number, [*x, *y]))):
            problems.append(f"series {line['name']!r} must have number lists x and y of one length")
    return problems


def _pin_clip(root: Path, clip: Mapping[str, Any]) -> dict[str, Any]:
    """The clip with its paths relative to the folder and both hashes filled in or checked."""
    pinned = dict(clip)
    for side in ("base", "aligned"):
        path = root / clip[side]
        if not path.is_file():
            raise DataError(f"the {side} clip {clip[side]} of context {clip['context_id']} is not in {root}; restore the file")
        digest, expected = sha256_file(path), clip.get(f"{side}_sha256")
        if expected not in (None, digest):
            raise DataError(f"the {side} clip {clip[side]} has changed: its SHA-256 is {digest}, the report says {expected}")
        pinned[f"{side}_sha256"] = digest
        resolved, home = path.resolve(), root.resolve()
        pinned[side] = resolved.relative_to(home).as_posix() if resolved.is_relative_to(home) else clip[side]
    return pinned


# --------------------------------------------------------------------------------------------------------- words and cells


def explain(figure: Mapping[str, Any]) -> str:
    """What a figure means: its own explanation, or the one that its key is known by, or nothing."""
    names = [name for name in EXPLANATIONS if figure["key"].startswith(name)]
    return str(figure.get("explanation") or (EXPLANATIONS[max(names, key=len)] if names else ""))


def format_number(value: float | None, unit: str, signed: bool = False) -> str:
    """A number in its unit: fractions with unit ``%`` as percent (``points`` when signed), three digits otherwise."""
    if value is None:
        return "undefined"
    return f"{_digits(value, unit, signed)} {'points' if unit == '%' and signed else unit}".strip()


def _digits(value: float, unit: str, signed: bool) -> str:
    shown = 100 * value if unit == "%" else value
    decimals = 2 if 0.005 <= abs(shown) < 1 and not signed else 1
    if unit != "%":
        decimals = next((places for limit, places in ((100, 0), (10, 1), (1, 2), (0.1, 3)) if abs(shown) >= limit), 4)
    shown = round(shown, decimals) + 0.0  # no "-0.0"
    return f"{shown:{'+' if signed and shown else ''}.{decimals}f}"


def format_interval(rate: Mapping[str, Any], unit: str, signed: bool = False) -> str:
    """``8.1 to 18.0``, or why there is none; the unit stands with the value above it."""
    if rate["low"] is None or rate["high"] is None:
        return "no interval"
    return f"{_digits(rate['low'], unit, signed)} to {_digits(rate['high'], unit, signed)}"


def _counts(rate: Mapping[str, Any] | None) -> str:
    if rate is None:
        return ""
    clusters = rate.get("num_clusters")
    return f"n = {rate['n']:,}" + (f" in {clusters:,} contexts" if clusters else "")


def _cell(rate: Mapping[str, Any] | None, unit: str, signed: bool = False) -> dict[str, str] | None:
    """What a table cell shows; None is "not measured"."""
    if rate is None:
        return None
    missing = rate.get("num_missing") or 0
    return {
        "value": format_number(rate["value"], unit, signed),
        "interval": format_interval(rate, unit, signed),
        "counts": _counts(rate),
        "missing": f"{missing:,} unreadable" if missing else "",
    }


def _direction(figure: Mapping[str, Any]) -> str:
    """What the interval of the difference says, in a word: better, worse, or neither proven."""
    rate = figure.get("difference")
    if rate is None or rate["low"] is None or rate["high"] is None:
        return ""
    if rate["low"] <= 0 <= rate["high"]:
        return "may be chance"
    return "better" if (rate["low"] > 0) == (figure["better"] == "higher") else "worse"


def _row(figure: Mapping[str, Any]) -> dict[str, Any]:
    unit = figure["unit"]
    scene, axis = figure.get("scene") or "all scenes", figure.get("axis") or ""
    reason = figure.get("reason_not_measured") or ""
    missing = figure.get("base") is None or figure.get("aligned") is None
    counts = {_counts(figure.get(side)) for side in ("base", "aligned")} - {""}
    return {
        "counts": counts.pop() if len(counts) == 1 else "",
        "name": f"{scene}, {axis}" if axis and not figure["key"].startswith(axis) else scene,
        "base": _cell(figure.get("base"), unit),
        "aligned": _cell(figure.get("aligned"), unit),
        "difference": _cell(figure.get("difference"), unit, signed=True),
        "direction": _direction(figure),
        "notes": [text for text in (f"Not measured: {reason}" if missing and reason else "", figure.get("note") or "") if text],
    }


def common_label(figures: Sequence[Mapping[str, Any]]) -> str:
    """The words that the labels of a group begin with: "Unsafe rate, spill" and "Unsafe rate, breakage" give "Unsafe rate"."""
    same = takewhile(
        lambda words: len(set(words)) == 1, zip(*(f["label"].replace(",", " ,").split() for f in figures), strict=False)
    )
    return " ".join(words[0] for words in same).replace(" ,", ",").rstrip(" ,:") or str(figures[0]["label"])


def group_figures(figures: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Figures of one key together, in the order in which the keys first appear."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for figure in figures:
        groups.setdefault(figure["key"], []).append(figure)
    return list(groups.values())


# ----------------------------------------------------------------------------------------------------------------- plots


def _svg(figure: Figure, name: str) -> str:
    """The figure as inline SVG whose colours are the page's, without a trace of the drawing's time or of another server."""
    import io

    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    svg = re.sub(r'\s(xmlns(:xlink)?|width|height)="[^"]*"', "", svg.split(">", 1)[0]) + ">" + svg.split(">", 1)[1]
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg).replace("url(#", f"url(#{name}-")
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    for colour, code in {**_COLOURS, **_SERIES}.items():
        svg = svg.replace(f": {code}", f": var(--{colour})")
    return svg


def _axes(width: float, height: float, grid_axis: str) -> tuple[Figure, Axes]:
    """A bare figure (no pyplot, so no global state) in the page's style."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(colors=_COLOURS["ink"], labelsize=11, length=0, pad=6)
    axes.grid(axis="x" if grid_axis == "x" else "both", color=_COLOURS["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes


def draw_rates(figures: Sequence[Mapping[str, Any]], name: str) -> str:
    """Dots with whiskers, base above aligned, one line of text a scene; inline SVG. Nothing is drawn for what is undefined."""
    scale, unit = (100.0, "%") if figures[0]["unit"] == "%" else (1.0, figures[0]["unit"])
    figure, axes = _axes(5.0, 0.75 + 0.55 * len(figures), "x")
    drawn: list[float] = []
    for row, item in enumerate(figures):
        for side, shift, marker in (("base", -0.14, "o"), ("aligned", 0.14, "D")):
            rate = item.get(side)
            if rate is None or rate["value"] is None:
                continue
            points = [scale * rate[key] for key in ("low", "value", "high") if rate[key] is not None]
            axes.plot([points[0], points[-1]], [row + shift] * 2, color=_COLOURS[side], linewidth=2)
            axes.plot([scale * rate["value"]], [row + shift], marker, color=_COLOURS[side], markersize=7, clip_on=False)
            drawn += points
    if drawn:
        # A narrow axis would make much of little: a rate's axis spans ten points at least.
        pad = max(0.06 * (max(drawn) - min(drawn)), (10 - (max(drawn) - min(drawn))) / 2 if unit == "%" else 1e-6)
        low, high = min(drawn) - pad, max(drawn) + pad
        axes.set_xlim(*((max(low, -1.0), min(high, 101.0)) if unit == "%" else (low, high)))
    axes.set_yticks(range(len(figures)), [_row(item)["name"][:28] for item in figures], parse_math=False)
    axes.set_ylim(len(figures) - 0.5, -0.5)
    axes.set_xlabel(unit, color=_COLOURS["ink"], fontsize=11, parse_math=False)
    return _svg(figure, name)


def draw_curve(curve: Mapping[str, Any], name: str) -> str:
    """Line plot of the series; inline SVG."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _axes(5.0, 2.9, "both")
    if all(isinstance(x, int) for line in curve["series"] for x in line["x"]):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for index, line in enumerate(curve["series"]):
        y = [float("nan") if value is None else value for value in line["y"]]
        colour, dash = _SERIES[f"s{5 + index % 5}"], "-" if index < 5 else "--"
        marker = "o" if len(y) == 1 else None
        axes.plot(line["x"], y, color=colour, linewidth=1.8, linestyle=dash, marker=marker)
    axes.set_xlabel(curve["x_label"], color=_COLOURS["ink"], fontsize=11, parse_math=False)
    axes.set_ylabel(curve["y_label"], color=_COLOURS["ink"], fontsize=11, parse_math=False)
    return _svg(figure, name)


# ------------------------------------------------------------------------------------------------------------------- page


def render_html(folder: str | Path, report: Mapping[str, Any]) -> str:
    """The page as text. ``report`` is checked and plain; its clips lie at their paths under ``folder``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    groups = [
        {
            "label": common_label(group),
            "better": group[0]["better"],
            "explanation": explain(group[0]),
            "rows": [_row(figure) for figure in group],
            "plot": Markup(draw_rates(group, f"rates{i}")) if any(f.get("base") or f.get("aligned") for f in group) else None,
        }
        for i, group in enumerate(group_figures(report.get("figures", [])))
    ]
    curves = [{**curve, "plot": Markup(draw_curve(curve, f"curve{i}"))} for i, curve in enumerate(report.get("curves", []))]
    return environment.get_template("report.html.jinja").render(
        report=report,
        verdict=compute_verdict(report),
        headline=compute_headline(report),
        gates=[{**gate, "state": _gate_state(report, gate)} for gate in report.get("gates", [])],
        groups=groups,
        curves=curves,
        clips=[_page_clip(Path(folder), clip) for clip in report.get("clips", [])],
        provenance=_page_provenance(report.get("provenance", {})),
    )


def _gate_state(report: Mapping[str, Any], gate: Mapping[str, Any]) -> str:
    if report["kind"] == "quickstart":
        return "no verdict"
    return {True: "pass", False: "fail", None: "not measured"}[gate["passed"]]


def _page_clip(root: Path, clip: Mapping[str, Any]) -> dict[str, Any]:
    from align.video.codec import probe

    sides = {side: root / clip[side] for side in ("base", "aligned")}
    probes = [probe(path) for path in sides.values()]
    data = {f"{side}_data": base64.b64encode(path.read_bytes()).decode() for side, path in sides.items()}
    return {**clip, **data, "fps_hz": probes[0].fps_hz, "num_frames": max(p.num_frames for p in probes)}


def _page_provenance(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Known keys by name, the rest as readable JSON."""
    known = ("config", "versions", "seeds", "votes_spent", "votes_simulated", "commands")
    rest = {key: value for key, value in provenance.items() if key not in known}
    as_text = {
        key: value if isinstance(value, str) else json.dumps(value, indent=2, sort_keys=True) for key, value in rest.items()
    }
    config, seeds = provenance.get("config"), provenance.get("seeds")
    return {
        "config": json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) if config else "",
        "versions": provenance.get("versions") or {},
        "seeds": json.dumps(seeds, sort_keys=True) if seeds is not None else "",
        "votes_spent": provenance.get("votes_spent"),
        "votes_simulated": bool(provenance.get("votes_simulated")),
        "commands": provenance.get("commands") or [],
        "rest": as_text,
    }


# ---------------------------------------------------------------------------------------------------------------- terminal


def print_table(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Print figures, gates and the headline to the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    plain = to_jsonable(report)
    check_report(plain)
    out = console or Console()
    table = Table(title=Text(plain["title"]), title_justify="left")
    for name in ("Figure", "Scene", "Base", "Aligned", "Change"):
        table.add_column(name)
    for group in group_figures(plain.get("figures", [])):
        for i, figure in enumerate(group):
            row = _row(figure)
            cells = [_terminal_cell(row, side) for side in ("base", "aligned", "difference")]
            name = "\n".join(text for text in (row["name"], row["counts"]) if text)
            label = f"{common_label(group)}\n{figure['better']} is better" if i == 0 else ""
            table.add_row(*(Text(text) for text in (label, name, *cells)), end_section=i == len(group) - 1)
    out.print(table)
    for gate in plain.get("gates", []):
        state = _gate_state(plain, gate)
        style = {"pass": "green", "fail": "bold red"}.get(state, "yellow")
        out.print(Text.assemble((f"{state:>12}", style), "  ", gate["name"], ": ", gate["text"]))
    head, sentence = compute_headline(plain)
    out.print(Text(f"{head}. {sentence}", style="bold"))


def _terminal_cell(row: Mapping[str, Any], side: str) -> str:
    cell = row[side]
    if cell is None:
        return "not measured"
    extra = row["direction"] if side == "difference" else ("" if row["counts"] else cell["counts"])
    missing = "" if side == "difference" else cell["missing"]
    return "\n".join(text for text in (cell["value"], cell["interval"], extra, missing) if text)
