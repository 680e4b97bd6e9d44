"""YAML and JSON files in which every value is the text that was written.

YAML itself would turn ``no`` into false, ``007`` into 7 and ``12:30`` into 750, and take the last of two equal keys in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml


def read_plain(path: Path) -> Any:
    """Lists, dicts and texts; what JSON has as a number, true or null is text, too.

    Raises:
        OSError: The file can't be read.
        ValueError: It is no YAML (or JSON, where its suffix says so), or a key stands twice in one place.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() == ".json":
        return _texts(json.loads(text, object_pairs_hook=_unique))
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return value if isinstance(value, str) else json.dumps(value)


def _unique(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    pairs = list(pairs)
    keys = [key for key, _ in pairs]
    repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
    if repeated:
        raise ValueError(f"the key(s) {', '.join(repeated)} stand twice in one place")
    return dict(pairs)


class _Loader(yaml.BaseLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        values = super().construct_mapping(node, deep)  # refuses what can't be a key
        _unique((self.construct_object(key, deep=True), None) for key, _ in node.value)
        return values
