"""Configurations: every problem at once, values that come through, recipes that agree with their YAML."""

from __future__ import annotations

import ast
import dataclasses
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from align.errors import ConfigError
from recipes._config import compare_configs, config_dict, dump_config, load_config
from recipes._registry import Recipe, copy_recipe, find_accelerate_config, find_recipe, list_recipes


@dataclass(frozen=True)
class Inner:
    """A part."""

    rank: Annotated[int, Field(ge=1)] = 8
    scale: float = 1.0


@dataclass(frozen=True)
class Outer:
    """A whole."""

    lr: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: int = 0
    model: str = "household"
    adapter: Path | None = None
    mode: Literal["dpo", "grpo"] = "dpo"
    scenes: tuple[str, ...] = ("pour",)
    lora: Inner = field(default_factory=Inner)
    teacher: Inner | None = None

    def __post_init__(self) -> None:
        if self.seed == 13:
            raise ValueError("seed must not be 13")


@dataclass(frozen=True)
class Grand:
    """Its default of a part differs from the part's own, and one field is a free mapping."""

    part: Inner = field(default_factory=lambda: Inner(rank=64))
    free: dict[str, int] = field(default_factory=lambda: {"a": 1, "b": 2})


@dataclass(frozen=True)
class Needy:
    """Has a field without a default."""

    path: Path


def write(folder: Path, text: str) -> Path:
    file = folder / "c.yaml"
    file.write_text(text)
    return file


def test_defaults_yaml_and_overrides_win_in_that_order(tmp_path: Path) -> None:
    file = write(tmp_path, "lr: 0.2\nseed: 5\nlora:\n  rank: 2\n")
    config = load_config(Outer, file, ["seed=6", "lora.scale=0.5", "teacher.rank=3", "scenes=[shelf, corridor]"])
    assert config == Outer(lr=0.2, seed=6, lora=Inner(2, 0.5), teacher=Inner(3), scenes=("shelf", "corridor"))


def test_a_part_keeps_the_defaults_of_the_whole(tmp_path: Path) -> None:
    assert load_config(Grand, None, ["part.scale=2.0"]).part == Inner(64, 2.0)
    assert load_config(Grand, write(tmp_path, "part:\n  scale: 2.0\n")).part == Inner(64, 2.0)
    assert load_config(Grand, write(tmp_path, "part:\n  scale: 2.0\n"), ["part.rank=3"]).part == Inner(3, 2.0)


def test_a_free_mapping_is_replaced_by_yaml_and_changed_by_an_override(tmp_path: Path) -> None:
    assert load_config(Grand, write(tmp_path, "free:\n  c: 3\n")).free == {"c": 3}
    assert load_config(Grand, None, ["free.b=5"]).free == {"a": 1, "b": 5}
    assert Grand().free == {"a": 1, "b": 2}


def test_an_empty_yaml_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(Outer, write(tmp_path, "# nothing\n")) == Outer()


def test_a_float_without_a_dot_is_a_number(tmp_path: Path) -> None:
    assert load_config(Outer, write(tmp_path, "lr: 1e-4\n")).lr == 1e-4
    assert load_config(Outer, None, ["lr=1e-4"]).lr == 1e-4


@pytest.mark.parametrize("text", ["7", "1.50", "2026-01-01", "true", "a=b", "x: y"])
def test_an_override_of_a_text_field_stays_text(text: str) -> None:
    if text == "x: y":
        with pytest.raises(ConfigError, match="model"):
            load_config(Outer, None, [f"model={text}"])
    else:
        assert load_config(Outer, None, [f"model={text}"]).model == text


def test_null_and_empty_clear_an_optional_field(tmp_path: Path) -> None:
    file = write(tmp_path, "adapter: some/where\n")
    assert load_config(Outer, file).adapter == Path("some/where")
    assert load_config(Outer, file, ["adapter=null"]).adapter is None
    assert load_config(Outer, file, ["adapter="]).adapter is None


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, "lr: 3\nsede: 1\nmode: ppo\nlora:\n  rnak: 2\n  scale: .nan\n")
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, file, ["seed=many", "lora.rank=0", "nonsense", "seed.x=1"])
    text = str(caught.value)
    for part in (
        "lr: input should be less than 1, got 3",
        "sede is unknown (did you mean seed? allowed: lr, seed, model,",
        "lora.rnak is unknown (did you mean rank? allowed: rank, scale)",
        "mode: input should be 'dpo' or 'grpo', got 'ppo'",
        "lora.scale must be a finite number",
        "seed: input should be a valid integer",
        "lora.rank: input should be greater than or equal to 1, got 0",
        "'nonsense' must have the form key=value",
        "seed.x: seed holds one value",
    ):
        assert part in text
    assert "9 problems" in text
    assert str(file) in text


def test_one_problem_is_counted_as_one() -> None:
    with pytest.raises(ConfigError, match=r"^the configuration has a problem: sed is unknown"):
        load_config(Outer, None, ["sed=1"])


def test_a_check_over_several_fields_speaks_for_itself() -> None:
    with pytest.raises(ConfigError, match=r"has a problem: seed must not be 13$"):
        load_config(Outer, None, ["seed=13"])


def test_a_required_field_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="path is required"):
        load_config(Needy)


@pytest.mark.parametrize(
    ("content", "reason"), [("- 1\n", "must hold a mapping"), ("a: [1\n", "not valid YAML"), ("1: 2\n", "must hold a mapping")]
)
def test_a_broken_yaml_is_one_sentence(content: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load_config(Outer, write(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_missing_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"could not read the configuration .*none\.yaml: No such file"):
        load_config(Outer, tmp_path / "none.yaml")


configs = st.builds(
    Outer,
    lr=st.floats(1e-9, 0.999),
    seed=st.integers(14, 2**40),
    model=st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
    adapter=st.none() | st.just(Path("a/b")),
    mode=st.sampled_from(["dpo", "grpo"]),
    scenes=st.lists(st.text(st.characters(codec="ascii", exclude_categories=["C"])), max_size=3).map(tuple),
    teacher=st.none() | st.builds(Inner, rank=st.integers(1, 9)),
)


@given(configs)
def test_what_is_dumped_is_loaded_again(config: Outer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert load_config(Outer, write(Path(folder), dump_config(config))) == config


def test_comparison_names_every_difference_by_its_dotted_field() -> None:
    old, new = config_dict(Outer()), config_dict(Outer(seed=1, teacher=Inner(2)))
    assert compare_configs(old, old) == []
    assert compare_configs(old, new) == [
        "seed was 0, is 1",
        "teacher was None, is (absent)",
        "teacher.rank was (absent), is 2",
        "teacher.scale was (absent), is 1.0",
    ]


def test_a_date_in_yaml_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model: input should be a valid string"):
        load_config(Outer, write(tmp_path, "model: 2026-01-01\n"))


def test_a_copied_recipe_is_found_with_its_yaml(recipe_file: Path) -> None:
    recipe = find_recipe(str(recipe_file))
    assert (recipe.name, recipe.in_package) == ("count", False)
    assert recipe.summary == "Count to a number, slowly enough to be killed."
    module = recipe.load()
    assert load_config(module.Config).optimizer.lr == 0.5
    assert load_config(module.Config, None, ["optimizer.lr=0.25"]).optimizer.lr == 0.25


def test_unknown_recipes_and_launch_configurations_are_answered_with_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no recipe dop"):
        find_recipe("dop")
    with pytest.raises(ConfigError, match="there is no recipe file"):
        find_recipe(str(tmp_path / "none.py"))
    with pytest.raises(ConfigError, match="there is no accelerate configuration fspd"):
        find_accelerate_config("fspd")


def test_a_module_without_a_config_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text('"""Nothing."""\n')
    with pytest.raises(ConfigError, match="is not a recipe: it must define a dataclass Config"):
        find_recipe(str(tmp_path / "plain.py")).load()


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
class TestShippedRecipes:
    """What holds for every recipe that ships, whichever they are."""

    def test_yaml_names_every_field_and_agrees_with_the_defaults(self, recipe: Recipe) -> None:
        module = recipe.load()
        assert recipe.path.with_suffix(".yaml").exists()
        written = yaml.safe_load(recipe.path.with_suffix(".yaml").read_text()) or {}
        config = load_config(module.Config)
        assert set(written) == set(config_dict(config))
        for spec in dataclasses.fields(module.Config):
            if spec.default is not dataclasses.MISSING or spec.default_factory is not dataclasses.MISSING:
                default = spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()
                assert getattr(config, spec.name) == default, f"{spec.name}: the YAML and the class disagree"

    def test_is_documented_frozen_and_seeded(self, recipe: Recipe) -> None:
        module = recipe.load()
        assert recipe.summary.endswith(".")
        assert module.Config.__dataclass_params__.frozen
        assert "seed" in {spec.name for spec in dataclasses.fields(module.Config)}
        assert undocumented_fields(recipe.path) == []

    def test_can_be_copied_and_loaded_from_there(self, recipe: Recipe, tmp_path: Path) -> None:
        copies = copy_recipe(recipe.name, tmp_path / "mine")
        module = find_recipe(str(copies[0])).load()
        assert config_dict(load_config(module.Config)) == config_dict(load_config(recipe.load().Config))


def undocumented_fields(path: Path) -> list[str]:
    """Fields of the public dataclasses in a file that no attribute docstring follows."""
    missing = []
    for definition in ast.parse(path.read_text()).body:
        if isinstance(definition, ast.ClassDef) and not definition.name.startswith("_"):
            for node, following in zip(definition.body, [*definition.body[1:], None], strict=True):
                is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                if isinstance(node, ast.AnnAssign) and not is_text:
                    missing.append(ast.unparse(node.target))
    return missing


def test_undocumented_fields_are_seen(recipe_file: Path) -> None:
    assert undocumented_fields(recipe_file) == ["optimizer"]
