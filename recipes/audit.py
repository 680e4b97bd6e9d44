"""Audit a model, and its adapter, reward model and votes where they are given: every probe, one verdict with error bars."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from align.io import to_jsonable
from recipes._checks import CHECKS, Check
from recipes._config import load_config
from recipes._run import Run

if TYPE_CHECKING:
    from align.audit.policy import Policy
    from align.audit.run import Probed


@dataclass(frozen=True)
class Config:
    """What is audited, and how closely."""

    model: str = "household"
    """World model: a shipped name or a folder."""
    adapter: str = ""
    """Adapter folder; empty audits the base alone."""
    reward_model: str = ""
    """Folder that gptsim run reward wrote; empty leaves it out."""
    votes: str = ""
    """Vote file, with rollouts; empty leaves votes out."""
    judgements: str = ""
    """With votes: file of single-clip judgements."""
    rollouts: str = ""
    """With votes: rollout folder that they are about."""
    training: tuple[str, ...] = ()
    """With votes: clip folders that something is trained on."""
    source_clips: tuple[str, ...] = ()
    """With reward_model: folders of source clips; empty leaves them out."""
    policy: str = ""
    """YAML file with what is tolerated, see gptsim audit policy; empty takes the defaults."""
    probes: tuple[str, ...] = ()
    """Probes to make; empty makes all that the rest allows."""
    size: Literal["small", "full"] = "small"
    """small takes minutes and settles little; full is for a verdict."""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields of a probe's own recipe that win over the size, such as {twins: {contexts: 1024}}."""
    scenes: tuple[str, ...] = ("pour", "shelf", "corridor")
    """Scenes of the household."""
    judge: str = ""
    """Judge of record for dreams; empty is the one that ships."""
    num_workers: int = 2
    """Processes."""
    seed: int = 0
    """Another stretch of the held-out contexts."""


TABLES_ONLY = ("confidence", "min_contexts")
"""Fields of a policy that this audit can't follow, so that it takes no other value than the default."""
INPUTS = ("adapter", "reward_model", "votes", "judgements", "rollouts", "judge", "policy")
"""Fields that name a file or folder, where they are not empty."""
OWN = {"probes", "policy", "settings", "size"}
"""Fields that no probe's recipe is handed."""
_FOLDERS = re.compile(r"(?:[\w.~+@%-]*/)+(?=[\w.])")
"""What stands before the last name of a path; of a URL, all but its scheme and last name."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write report.html; returns the report (see ``align.audit.run.report``), whose bytes depend on inputs and seed alone."""
    from align.audit.policy import load_policy
    from align.audit.run import make_report, write_page

    policy, sha256 = load_policy(config.policy or None)
    check_policy(policy)
    skipped = plan(config)
    policy_file = _policy_file(config, run, sha256)
    probed = [_ask(config, run, name, check, skipped.get(name, ""), policy) for name, check in CHECKS.items()]
    report = make_report(
        probed,
        policy,
        title=_title(config),
        subjects=_subjects(config, run),
        policy_file=policy_file,
        seed=config.seed,
        size=config.size,
    )
    write_page(run.path, report)
    return report


def plan(config: Config) -> dict[str, str]:
    """Probes that are not made, and why.

    Raises:
        ConfigError: A probe is unknown, or one that is wanted lacks an input.
        DataError: An input is not there.
    """
    from align.errors import ConfigError, DataError

    if unknown := [name for name in (*config.probes, *config.settings) if name not in CHECKS]:
        raise ConfigError(f"probes must be among {', '.join(CHECKS)}, got {', '.join(unknown)}")
    for name, path in _inputs(config).items():
        if not path.exists():
            raise DataError(f"{name}={getattr(config, name)} does not exist; give a file or folder that does, or leave it out")
    for name in config.settings:
        _check_settings(config, name)
    skipped = {}
    for name, check in CHECKS.items():
        missing = [need for need in check.needs if not getattr(config, need)]
        wanted = name in config.probes or any(getattr(config, own) for own in check.wanted_by or check.needs)
        if missing and wanted:
            raise ConfigError(f"the probe {name} needs {' and '.join(check.needs)}; {' and '.join(missing)} is missing")
        if config.probes and name not in config.probes:
            skipped[name] = "it was left out on request"
        elif missing:
            skipped[name] = f"no {' and no '.join(missing).replace('_', ' ')} was given"
    return skipped


def check_policy(policy: Policy) -> None:
    """Refuse what this audit would not hold to.

    Raises:
        ConfigError: A probe is unknown, or a field that only audits of tables read is changed.
    """
    from align.errors import ConfigError

    if unknown := [name for name in policy.probes if name not in CHECKS]:
        raise ConfigError(f"the policy's probes must be among {', '.join(CHECKS)}, got {', '.join(unknown)}")
    for name in TABLES_ONLY:
        usual = type(policy).model_fields[name].default
        if getattr(policy, name) != usual:
            raise ConfigError(f"gptsim audit run can't hold to the policy's {name}, which is for tables; leave it at {usual}")


def _check_settings(config: Config, name: str) -> None:
    """Raise ConfigError where a user's settings would probe something else than the report names, or overrule the policy."""
    from importlib import import_module

    from align.errors import ConfigError
    from recipes._checks import find_probe

    recipe = import_module(f"recipes.{find_probe(name).recipe}").Config
    theirs = {item.name for item in fields(recipe)}
    fixed = {item.name for item in fields(Config)} & theirs - OWN | set(CHECKS[name].renames) | {"tolerance"} & theirs
    if taken := sorted(fixed & set(config.settings[name])):
        raise ConfigError(
            f"settings.{name} can't set {', '.join(taken)}: the audit's own fields and its policy say that for all probes"
        )


def _inputs(config: Config) -> dict[str, Path]:
    """What the configuration names; of a judge, which is two files, the one with its weights."""
    paths = {name: Path(getattr(config, name)) for name in INPUTS if getattr(config, name)}
    return {name: path.with_suffix(".safetensors") if name == "judge" else path for name, path in paths.items()}


def _policy_file(config: Config, run: Run, sha256: str) -> dict[str, Any]:
    """Name and hash of the policy, and whether the ledger held it when the audit began.

    Only records of kind ``policy`` count: an audit reads its policy, so it would be on record for every later one.
    """
    from align.errors import DataError, RunError
    from recipes._ledger import find_ledger

    if config.policy:
        run.record_input("policy", config.policy)
    if (done := run.done("policy")) is not None:
        if done["sha256"] != sha256:
            raise DataError(
                f"the policy has changed since the audit {run.name} was started; start a new audit under the new one"
            )
        return done
    ledger = find_ledger(run.path)
    with run.stage("policy", "was what is tolerated written down before?") as found:
        chain = ledger.read()
        if chain.fault is not None:
            raise RunError(f"{ledger.path} is not intact: {chain.fault}; keep it for an inquiry and start a new one elsewhere")
        held = [r for r in chain.records if r.kind == "policy" and sha256 in {a.sha256 for a in r.outputs.values()}]
        name = Path(config.policy).name if config.policy else "default policy"
        found |= {"name": name, "sha256": sha256, "committed": bool(held), "record_hash": held[0].hash if held else ""}
        doubt = (
            "so nobody can tell whether it was written for this outcome" if config.policy else "so it may have been chosen late"
        )
        found["says"] = (
            f"What is tolerated ({name}) was put on record before the audit began: {held[0].describe()} of the ledger."
            if held
            else f"What is tolerated ({name}) was not on record before the audit began, {doubt}."
        )
    return found


def _ask(config: Config, run: Run, name: str, check: Check, skipped: str, policy: Policy) -> Probed:
    """Carry out one probe in a run folder of its own, unless it is finished."""
    from importlib import import_module

    from align.audit.run import Family, Probed
    from align.errors import DataError
    from recipes._checks import find_probe, read_probe
    from recipes._steps import run_step

    probe = find_probe(name)
    if skipped:
        return Probed(probe, Family(name), skipped=skipped)
    settings = {**check.sizes[config.size], **config.settings.get(name, {})}
    recipe, step = import_module(f"recipes.{probe.recipe}"), f"{name}-{probe.recipe}"
    shown = strip_paths(settings)
    limit = policy.probe(name).max_effect
    try:
        with redirect_stdout(sys.stderr):  # a probe's own tables are progress here, not the audit's result
            run_step(run, step, recipe, configure(config, recipe.Config, check, {"tolerance": limit}, settings))
    except DataError as error:
        run.say(f"[{step}] could not be made: {error}")
        return Probed(probe, Family(name), settings=shown, skipped=strip_paths(str(error)), failed=True)
    return read_probe(name, config, policy, shown, run.path, f"steps/{step}")


def strip_paths(value: Any) -> Any:
    """Plain values with every path cut down to its last name: where something lies is nobody else's business."""
    if isinstance(value, Mapping):
        return {key: strip_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strip_paths(item) for item in value]
    return _FOLDERS.sub("", value) if isinstance(value, str) else value


def configure(config: Config, recipe: type, check: Check, policy: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """The configuration of a probe's recipe: fields that it shares with the audit's, what the policy says, then the settings.

    Raises:
        ConfigError: A setting is unknown or out of range.
    """
    theirs = {item.name for item in fields(recipe)}
    shared = {item.name: getattr(config, item.name) for item in fields(config) if item.name in theirs - OWN}
    renamed = {name: getattr(config, own) for name, own in check.renames.items()}
    ruled = {name: value for name, value in policy.items() if name in theirs}
    values = to_jsonable({**shared, **renamed, **ruled, **settings})
    return load_config(recipe, None, [f"{name}={json.dumps(value)}" for name, value in values.items()])


def _title(config: Config) -> str:
    """Which model, and what was audited with it; hashes tell which exactly."""
    parts = {"an adapter": config.adapter, "a reward model": config.reward_model, "votes": config.votes}
    others = [name for name, path in parts.items() if path]
    listed = " and ".join([", ".join(others[:-1]), others[-1]] if len(others) > 1 else others)
    return f"Audit of {Path(config.model).name}" + (f" with {listed}" if listed else "")


def _subjects(config: Config, run: Run) -> dict[str, dict[str, str]]:
    """Name and hash of everything that was audited."""
    from align.audit.ledger.files import hash_path
    from align.world_models.world_model import SHIPPED

    paths = {name: path for name, path in _inputs(config).items() if name != "policy"}
    for name in ("training", "source_clips"):
        paths |= {f"{name}_{number}": Path(path) for number, path in enumerate(getattr(config, name))}
    found = {name: {"name": path.name, "sha256": run.record_input(name, path)} for name, path in paths.items()}
    model = SHIPPED.get(config.model)
    sha256 = hash_path(model) if model else run.record_input("model", config.model)
    return {"model": {"name": Path(config.model).name, "sha256": sha256}, **found}
