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

from align.audit.report.files import write_report
from align.audit.report.page import render_html
from align.audit.report.plots import draw_curve, draw_rates
from align.audit.report.schema import KINDS, REPORT_VERSION, VERDICTS, check_report, compute_headline, compute_verdict
from align.audit.report.terminal import print_table
from align.audit.report.words import EXPLANATIONS, common_label, explain, format_interval, format_number, group_figures

__all__ = [
    "EXPLANATIONS",
    "KINDS",
    "REPORT_VERSION",
    "VERDICTS",
    "check_report",
    "common_label",
    "compute_headline",
    "compute_verdict",
    "draw_curve",
    "draw_rates",
    "explain",
    "format_interval",
    "format_number",
    "group_figures",
    "print_table",
    "render_html",
    "write_report",
]
