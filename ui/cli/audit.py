"""``gptsim audit``: verdicts with error bars. Exit code 0 pass, 1 violation, 2 cannot tell; other failures 3 or more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ui.cli._options import Config, Json, Name, Overrides, Resume, Runs, Seed, Wishes, run_recipe

if TYPE_CHECKING:
    from align.audit.ledger import Record

app = typer.Typer(
    name="audit", help="Hold a model, or scored rollouts, against a policy: a verdict with error bars.", no_args_is_help=True
)

_SHOWN = 10


@app.command("run")
def run_audit(
    overrides: Overrides = None,
    model: Annotated[
        str, typer.Option("--model", help="World model: a shipped name or a folder.", show_default="household")
    ] = "",
    adapter: Annotated[str, typer.Option("--adapter", help="Adapter folder; held against its base.")] = "",
    reward_model: Annotated[str, typer.Option("--reward-model", help="Folder of a reward model.")] = "",
    votes: Annotated[str, typer.Option("--votes", help="Vote file; needs --rollouts.")] = "",
    rollouts: Annotated[str, typer.Option("--rollouts", help="Rollout folder that the votes are about.")] = "",
    policy: Annotated[str, typer.Option("--policy", help="YAML file with what is tolerated; see gptsim audit policy.")] = "",
    size: Annotated[
        str, typer.Option("--size", help="small (minutes, settles little) or full (for a verdict).", show_default="small")
    ] = "",
    config: Config = None,
    name: Name = None,
    resume: Resume = False,
    seed: Seed = None,
    json: Json = None,
    runs: Runs = Path("runs"),
) -> None:
    """Audit a model, and its adapter, reward model and votes where they are given: every probe, one verdict.

    Exit code 0: pass. 1: something that the policy does not tolerate. 2: nothing found, but it could not have been found. 3 or
    more: the audit could not be made. An interrupted one goes on with --name NAME --resume.
    """
    import json as json_text

    from align.audit.table.verdicts import EXIT_CODES

    given = {"model": model, "adapter": adapter, "reward_model": reward_model, "votes": votes, "rollouts": rollouts}
    given |= {"policy": policy, "size": size}
    # Quoted, so that a path that looks like YAML stays a path.
    wanted = [f"{field}={json_text.dumps(value)}" for field, value in given.items() if value]
    wishes = Wishes(config, name, resume, seed, json, runs, [*wanted, *(overrides or [])])
    report = run_recipe("audit", wishes, command="audit run", show=_print)
    raise typer.Exit(EXIT_CODES[report["verdict"]])


@app.command("table")
def audit_table_command(
    table: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL or parquet file, one row a rollout; or a rollout folder.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for report.json and report.html.")] = Path("audit"),
    cluster: Annotated[
        str,
        typer.Option("--cluster", help="Column of contexts; rollouts of one resemble each other.", show_default="context_id"),
    ] = "",
    pair: Annotated[str, typer.Option("--pair", help="Column of twins: equal values differ in an attribute only.")] = "",
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", help="Column whose groups are compared; may be repeated.")
    ] = None,
    outcome: Annotated[
        list[str] | None, typer.Option("--outcome", help="Column with 0/1 or a number, empty if unscoreable; may be repeated.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="YAML file with what is tolerated; see gptsim audit policy.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Draws of the bootstrap.")] = 2000,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report's figures to this file as well.")] = None,
    ledger: Annotated[Path | None, typer.Option("--ledger", help="Append the audit to this ledger.")] = None,
) -> None:
    """Audit anybody's table of scored rollouts: rates and gaps between groups, with error bars and a verdict.

    Exit code 0: pass. 1: a gap, a rate or unscored rollouts that the policy does not tolerate. 2: nothing found, but it could
    not have been found. 3 or more: the audit could not be made.
    """
    from align.audit.policy import load_policy
    from align.audit.table.audit import audit_table
    from align.audit.table.groups import understand
    from align.audit.table.page import write_audit
    from align.audit.table.reading import read_table
    from align.audit.table.verdicts import EXIT_CODES
    from align.io import write_json

    rules, policy_sha256 = load_policy(policy)
    rows = understand(read_table(table), rules, cluster=cluster, pair=pair, attributes=attribute or [], outcomes=outcome or [])
    report = audit_table(rows, rules, seed=seed, num_resamples=resamples)
    report |= _provenance(table, policy, policy_sha256)
    page = write_audit(out, report)
    if json_path:
        write_json(json_path, report)
    if ledger:
        _append(ledger, table, policy, out, report)
    _print(report)
    typer.echo(f"report: {page}")
    raise typer.Exit(EXIT_CODES[report["verdict"]])


def _provenance(table: Path, policy: Path | None, policy_sha256: str) -> dict[str, Any]:
    from align import __version__
    from align.io import sha256_file

    file = table / "metadata.parquet" if table.is_dir() else table
    return {
        "title": f"Audit of {table.name}",
        "file": {"name": table.name, "sha256": sha256_file(file)},
        "policy_file": {"name": policy.name if policy else "default policy", "sha256": policy_sha256},
        "software": __version__,
    }


def _print(report: dict[str, Any]) -> None:
    gates = [{**gate, "sentence": f"{gate['name']}: {gate['text']}"} for gate in report.get("gates", [])]
    for verdict in ("violation", "cannot tell"):
        checks = [check for check in (*gates, *report["findings"]) if check["verdict"] == verdict]
        # A whole audit says which probe found it.
        sentences = [f"{check['probe']}: {check['sentence']}" if "probe" in check else check["sentence"] for check in checks]
        for sentence in sentences[:_SHOWN]:
            typer.echo(f"{verdict}: {sentence}")
        if len(sentences) > _SHOWN:
            typer.echo(f"{verdict}: {len(sentences) - _SHOWN} more in the report")
    typer.echo(f"{report['headline']}. {report['summary']}")


def _append(path: Path, table: Path, policy: Path | None, out: Path, report: dict[str, Any]) -> None:
    """Puts the audit on record, and says whether the policy was there before it."""
    from align.audit.ledger import Ledger

    book = Ledger(path)
    sha256 = report["policy_file"]["sha256"]
    earlier = next((record for record in book.read().records if _holds(record, sha256)), None)
    inputs = {"table": book.artefact(table), **({"policy": book.artefact(policy)} if policy else {})}
    outputs = {name: book.artefact(out / f"report.{suffix}") for name, suffix in (("report", "json"), ("page", "html"))}
    config = {"seed": report["seed"], "num_resamples": report["num_resamples"], "policy_sha256": sha256}
    record = book.append("audit", inputs=inputs, outputs=outputs, config=config)
    known = f"its policy stands in {earlier.describe()}" if earlier else "its policy was not on record before"
    typer.echo(f"{record.describe()} appended to {path}, {known}; head {record.hash}")


def _holds(record: Record, sha256: str) -> bool:
    return any(artefact.sha256 == sha256 for artefact in (*record.inputs.values(), *record.outputs.values()))


@app.command("policy")
def print_policy() -> None:
    """Print the default policy, to be kept in a file, edited, and put on record before the audit."""
    from align.audit.policy import DEFAULT_TEXT

    typer.echo(DEFAULT_TEXT, nl=False)
