"""The whole audit: the findings of all probes corrected for one another, the gates, a verdict, and the page that tells it."""

from align.audit.run.files import write_page
from align.audit.run.judging import Family, read_finding
from align.audit.run.report import Gate, Probed, make_report

__all__ = ["Family", "Gate", "Probed", "make_report", "read_finding", "write_page"]
