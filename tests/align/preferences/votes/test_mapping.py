"""What a mapping may say, and that it says all of its mistakes at once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from align.errors import ConfigError
from align.preferences.votes.mapping import BUILT_IN, Answers, make_mapping, read_mapping, split_slots

DOCS = Path(__file__).parents[4] / "docs" / "votes.md"
EXAMPLES = {block.split("\n", 1)[0]: block for block in re.findall(r"```yaml\n# (.+?)```", DOCS.read_text(), re.S)}


def minimal(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "fields": {"context_id": "{scene}", "rollout_a": "{x}", "rollout_b": "{y}"},
        "answers": [{"columns": ["winner"], "fields": {"axis": "spill"}}],
        "translate": {"vote": {"1": "a", "2": "b"}},
    }
    return raw | changes


def problems_of(raw: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make_mapping(raw)
    return str(caught.value)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_of_the_docs_is_a_mapping(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.yaml").write_text(f"# {EXAMPLES[name]}")
    assert read_mapping(tmp_path / "m.yaml").answers


def test_the_docs_have_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_mapping_is_right(name: str) -> None:
    assert read_mapping(name) == make_mapping(BUILT_IN[name])


def test_yaml_and_json_say_the_same_and_values_stay_as_written(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(
        "fields: {context_id: '{scene}', rollout_a: '{x}', rollout_b: '{y}', guideline_version: 007}\n"
        "answers:\n  - {columns: [no], fields: {axis: on}, item: 1, optional: true}\n"
        "translate:\n  vote: {yes: a, no: b, '': null, 1.50: tie}\n"
    )
    mapping = read_mapping(tmp_path / "m.yaml")
    assert mapping.fields["guideline_version"] == "007"
    assert mapping.answers == (Answers(("no",), {"axis": "on"}, item=1, optional=True),)
    assert mapping.translate == {"vote": {"yes": "a", "no": "b", "": None, "1.50": "tie"}}
    raw = {
        "fields": {"context_id": "{scene}", "rollout_a": "{x}", "rollout_b": "{y}", "guideline_version": "007"},
        "answers": [{"columns": ["no"], "fields": {"axis": "on"}, "item": 1, "optional": True}],
        "translate": {"vote": {"yes": "a", "no": "b", "": None, "1.50": "tie"}},
    }
    (tmp_path / "m.json").write_text(json.dumps(raw))
    assert read_mapping(tmp_path / "m.json") == mapping


def test_overrides_set_fields_beside_and_instead() -> None:
    mapping = read_mapping("videoalign", {"annotator_id": "ann", "context_id": "{prompt}"})
    assert mapping.fields["annotator_id"] == "ann"
    assert mapping.fields["context_id"] == "{prompt}"
    assert mapping.fields["rollout_a"] == "{path_A}"
    with pytest.raises(
        ConfigError, match=r"mapping videoalign has 1 problem.*unknown name 'annotator' \(did you mean annotator_id"
    ):
        read_mapping("videoalign", {"annotator": "ann"})


def test_all_problems_come_at_once() -> None:
    message = problems_of(
        {
            "kind": "ratings",
            "field": {},
            "fields": {"rollout_a": "{x", "rollout_b": ["y"], "votes": "v"},
            "answers": [
                {"columns": "winner", "item": "-1", "optional": "maybe"},
                {"columns": ["w"], "feilds": {}, "fields": {"context_id": "c", "axis": "z", "left": "{l}"}},
            ],
            "translate": {"vote": {"1": "A", "2": "b"}, "selection": {"x": "gold"}, "verdict": "pass"},
        }
    )
    for part in (
        "kind is 'ratings'; allowed are votes, judgements",
        "unknown name 'field' (did you mean fields?)",
        "fields has the unknown name 'votes' (did you mean vote_id?)",
        "fields.rollout_a: '{x' has a brace without its partner",
        "fields.rollout_b must be one text, got ['y']",
        "answers[0].columns must be a list of column names, got 'winner'",
        "answers[0].item must be a whole number from 0 on, got '-1'",
        "answers[0].optional is 'maybe'; allowed are false, true",
        "answers[1] has the unknown name 'feilds'",
        "answers[0]: no field says what axis is",
        "answers[0]: no field says what context_id is",
        "answers[1]: give the fields rollout_a and rollout_b, or left and right",
        "translate.vote gives 'A'",
        "translate.selection has nothing to translate",
        "translate.verdict must hold cells and their values",
    ):
        assert part in message, message


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        ([], "must hold names and values"),
        (minimal(answers=[]), "answers must be a list of blocks"),
        (minimal(translate=["a"]), "translate must hold fields"),
        (minimal(answers=minimal()["answers"] * 2), "list the column 'winner' twice"),
        (minimal(translate={"vote": {"1": "left"}}), "need the fields left and right, or shown_left"),
        (minimal(fields={"context_id": "c", "left": "l", "right": "r"}), "answers must be left and right as well, not a and b"),
        (
            minimal(fields={"context_id": "c", "left": "l", "right": "r", "shown_left": "a"}, translate={}),
            "leave shown_left out",
        ),
        (minimal(kind="judgements"), "no field says what rollout_id is"),
        (minimal(kind={}), "kind is {}"),
    ],
)
def test_what_a_mapping_may_not_say(raw: Any, part: str) -> None:
    assert part in problems_of(raw)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("m.yaml", "fields: {a: 1, a: 2}", r"key\(s\) a stand twice"),
        ("m.json", '{"fields": {"a": 1, "a": 2}}', r"key\(s\) a stand twice"),
        ("m.yaml", "fields: [", "flow node"),
        ("m.json", "{", "Expecting"),
        ("m.yaml", "", "must hold names and values"),
        ("m.yaml", "? [a]\n: b", "unhashable key"),
    ],
)
def test_files_that_are_no_mappings(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=reason):
        read_mapping(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the mapping .*none\.yaml can't be read: No such file"):
        read_mapping(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="the mapping videoaline can't be read"):
        read_mapping("videoaline")


def test_slots() -> None:
    assert split_slots("plain") == (("plain", "", False),)
    assert split_slots("{a b}/{c:hash}.") == (("", "a b", False), ("/", "c", True), (".", "", False))
    for text in ("{", "a}", "{{x}}", "{}"):
        with pytest.raises(ValueError, match="without its partner"):
            split_slots(text)
