"""Recipe configurations: frozen dataclasses filled from YAML and ``key=value``, checked as a whole.

A configuration is a frozen dataclass whose fields are typed, constrained (``Annotated[float, Field(gt=0)]``) and
documented by attribute docstrings. The YAML beside a recipe holds the values it is run with.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import types
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from align.errors import ConfigError

C = TypeVar("C")


def load_config(cls: type[C], yaml_path: str | Path | None = None, overrides: Sequence[str] = ()) -> C:
    """Reads a configuration and checks all of it before anything runs.

    Args:
        cls: The configuration's dataclass.
        yaml_path: The YAML file; None takes the one beside the module of ``cls``, if there is one. Fields that the file
            leaves out get the defaults of ``cls``.
        overrides: ``key=value`` texts that win over the file; a nested field is ``outer.inner=value``; values are YAML.

    Raises:
        ConfigError: With every problem found: unknown fields, wrong types, values out of range, malformed overrides.
    """
    path = Path(yaml_path) if yaml_path is not None else default_yaml(cls)
    values = _merge_defaults(cls, _read_yaml(path)) if path is not None else {}
    problems = _apply_overrides(cls, values, overrides)
    problems += list(_unknown_fields(cls, values)) + list(_not_finite(values))
    known = _known_part(cls, values)
    try:
        config = _adapter(cast(Hashable, cls)).validate_python(known)
    except ValidationError as error:
        problems += [_sentence(detail) for detail in error.errors(include_url=False)]
    if problems:
        source = f" from {path}" if path is not None else ""
        raise ConfigError(f"the configuration{source} has {_count(problems)}: " + "; ".join(problems))
    return config


def dump_config(config: Any) -> str:
    """The configuration as YAML, in the order of its fields; :func:`load_config` reads it back to an equal one."""
    return yaml.safe_dump(config_dict(config), sort_keys=False, allow_unicode=True)


def config_dict(config: Any) -> dict[str, Any]:
    """The configuration as nested dicts of plain YAML values."""
    plain: dict[str, Any] = _adapter(cast(Hashable, type(config))).dump_python(config, mode="json")
    return plain


def default_yaml(cls: type) -> Path | None:
    """The YAML beside the module that defines ``cls``, or None if there is none."""
    path = Path(inspect.getfile(cls)).with_suffix(".yaml")
    return path if path.exists() else None


def compare_configs(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One text per dotted field whose value differs between two plain configurations."""
    flat_old, flat_new = dict(_flatten(old)), dict(_flatten(new))
    keys = [*flat_old, *(key for key in flat_new if key not in flat_old)]
    absent = "(absent)"
    return [
        f"{key} was {flat_old.get(key, absent)}, is {flat_new.get(key, absent)}"
        for key in keys
        if flat_old.get(key, absent) != flat_new.get(key, absent)
    ]


def closest(name: str, allowed: Sequence[str]) -> str:
    """The tail of an error about an unknown name: the nearest allowed one, if any, and all that are allowed."""
    match = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {match[0]}? " if match else ""
    return f"{hint}allowed: {', '.join(allowed) or 'none'}"


@functools.cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    """Pydantic's checks for a dataclass; making them costs more than using them."""
    return TypeAdapter(cls)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"could not read the configuration {path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path} must hold a mapping of field names to values, got {type(values).__name__}")
    return values


def _apply_overrides(cls: type, values: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Sets ``key=value`` texts in ``values``; returns what is wrong with them."""
    problems = []
    for text in overrides:
        key, equals, raw = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            problems.append(f"{text!r} must have the form key=value, or outer.inner=value")
            continue
        target: Any = values
        owner: Any = cls
        for part in parts[:-1]:
            if isinstance(target, dict) and target.get(part) is None:
                target[part] = _default_mapping(owner, part)
            target = target[part] if isinstance(target, dict) else None
            owner = _nested(_fields_of(owner).get(part))
        if not isinstance(target, dict):
            problems.append(f"{key}: {'.'.join(parts[:-1])} holds one value, it has no inner fields")
            continue
        try:
            target[parts[-1]] = _parse(raw, _hint_of(cls, parts))
        except yaml.YAMLError:
            problems.append(f"{key}: {raw!r} is not a YAML value")
    return problems


def _parse(raw: str, hint: Any) -> Any:
    """A YAML value; but where the field wants text, what looks like a number or a date stays text."""
    value = yaml.safe_load(raw)
    leaves = set(_leaf_types(hint))
    if not raw.strip():
        return None if types.NoneType in leaves else ""
    if leaves & {str, Path} and not isinstance(value, str | list | dict | None) and not leaves & {int, float, bool}:
        return raw
    return value


def _leaf_types(hint: Any) -> Iterator[Any]:
    """The alternatives of a field's type, without Annotated and Optional."""
    if get_origin(hint) is Annotated:
        yield from _leaf_types(get_args(hint)[0])
    elif get_origin(hint) in (Union, types.UnionType):
        for item in get_args(hint):
            yield from _leaf_types(item)
    else:
        yield hint


def _fields_of(cls: Any) -> dict[str, Any]:
    """Field name to type of a dataclass, {} for anything else."""
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        return {}
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _nested(hint: Any) -> Any:
    """The dataclass that a field holds, None where it holds something else."""
    return next((leaf for leaf in _leaf_types(hint) if _fields_of(leaf)), None)


def _hint_of(cls: Any, parts: Sequence[str]) -> Any:
    for part in parts[:-1]:
        cls = _nested(_fields_of(cls).get(part))
    return _fields_of(cls).get(parts[-1])


def _default_mapping(cls: Any, name: str) -> dict[str, Any]:
    """The default of a field that holds a dataclass or a mapping, as a plain dict; {} where it has none."""
    spec = next((spec for spec in dataclasses.fields(cls) if spec.name == name), None) if _fields_of(cls) else None
    if spec is None:
        return {}
    default = spec.default_factory() if spec.default_factory is not dataclasses.MISSING else spec.default
    if isinstance(default, dict):
        return dict(default)
    return config_dict(default) if dataclasses.is_dataclass(default) else {}


def _merge_defaults(cls: Any, values: dict[str, Any]) -> dict[str, Any]:
    """``values`` with what a nested dataclass leaves out, taken from the outer field's default, not the inner class's."""
    merged = dict(values)
    for key, hint in _fields_of(cls).items():
        inner = _nested(hint)
        if inner is not None and isinstance(values.get(key), dict):
            merged[key] = {**_default_mapping(cls, key), **_merge_defaults(inner, values[key])}
    return merged


def _unknown_fields(cls: Any, values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    fields = _fields_of(cls)
    for key, value in values.items():
        if key not in fields:
            yield f"{prefix}{key} is unknown ({closest(str(key), list(fields))})"
        elif isinstance(value, dict) and (inner := _nested(fields[key])) is not None:
            yield from _unknown_fields(inner, value, f"{prefix}{key}.")


def _known_part(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` without unknown fields, which are reported by name elsewhere."""
    fields = _fields_of(cls)
    known = {}
    for key, value in values.items():
        if key in fields:
            inner = _nested(fields[key])
            known[key] = _known_part(inner, value) if inner is not None and isinstance(value, dict) else value
    return known


def _not_finite(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{name} must be a finite number, got {value}"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for idx, item in enumerate(value):
            yield from _not_finite(item, f"{name}.{idx}")


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _sentence(detail: Any) -> str:
    """One of pydantic's findings in our words."""
    name = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    if not name:
        return message
    if detail["type"] == "missing":
        return f"{name} is required"
    return f"{name}: {message[0].lower()}{message[1:]}, got {detail['input']!r}"


def _count(problems: Sequence[str]) -> str:
    return "a problem" if len(problems) == 1 else f"{len(problems)} problems"
