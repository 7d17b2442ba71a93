"""Strict YAML: defaults, files, --set, and refusals that say what to do."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from image2reg.config import changed_settings, dump_config, load_config
from image2reg.errors import ConfigurationError


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(Strict):
    steps: int = Field(default=10, gt=0)
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)


class L1(Strict):
    name: Literal["l1"] = "l1"
    weight: float = 1.0


class Ssim(Strict):
    name: Literal["ssim"]
    window: int = 7


class Recipe(Strict):
    schema_version: Literal[1] = 1
    name: str = "stain"
    training: Training = Training()
    losses: tuple[Annotated[L1 | Ssim, Field(discriminator="name")], ...] = (L1(),)
    arguments: dict[str, Any] = {}


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tmp_path, text, **options) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_config(Recipe, write(tmp_path, text), **options)
    assert caught.value.exit_code == 2
    assert str(tmp_path / "recipe.yaml") in str(caught.value)
    return str(caught.value)


def test_defaults_live_in_the_classes(tmp_path):
    assert load_config(Recipe) == Recipe()
    assert load_config(Recipe, write(tmp_path, "")) == Recipe()
    assert load_config(Recipe, write(tmp_path, "# nothing differs\n")) == Recipe()


def test_a_file_lists_what_differs(tmp_path):
    text = "\ufefftraining: {steps: 5, learning_rate: 1e-4}\nlosses:\n- {name: ssim, window: 3}\n"
    recipe = load_config(Recipe, write(tmp_path, text))
    assert recipe.training == Training(steps=5, learning_rate=1e-4)
    assert recipe.losses == (Ssim(name="ssim", window=3),)
    assert recipe.name == "stain"


def test_set_comes_after_the_file(tmp_path):
    path = write(tmp_path, "training: {steps: 5}\n")
    options = [
        "training.steps=7",
        "training.learning_rate=3e-4",
        "training.betas=[0.5, 0.9]",
        "arguments.deep.er=2e-1",
    ]
    recipe = load_config(Recipe, path, overrides=options)
    assert recipe.training == Training(steps=7, learning_rate=3e-4, betas=(0.5, 0.9))
    assert recipe.arguments == {"deep": {"er": 0.2}}
    assert load_config(Recipe, overrides=["name=a", "name=b=c"]).name == "b=c"


def test_switches_words_and_usual_numbers_stay_what_they_are():
    options = ["arguments={a: yes, b: '0123', c: '1:30', d: [on, 1], e: 0x1F, f: 1_000, g: 0.5, h: 0}"]
    made = load_config(Recipe, overrides=[*options, "training.steps=5", "name='08'"])
    expected = {"a": True, "b": "0123", "c": "1:30", "d": [True, 1], "e": 31, "f": 1000, "g": 0.5, "h": 0}
    assert (made.arguments, made.training.steps, made.name) == (expected, 5, "08")


def test_set_changes_one_place_of_an_alias(tmp_path):
    path = write(tmp_path, "arguments: {a: &x {v: 1}, b: *x}\n")
    assert load_config(Recipe, path, overrides=["arguments.a.v=2"]).arguments == {
        "a": {"v": 2},
        "b": {"v": 1},
    }


def test_resolved_configuration_reads_back(tmp_path):
    recipe = load_config(Recipe, overrides=["name='1e5'", "arguments.x=null", "arguments.y='no'"])
    text = dump_config(recipe)
    assert "learning_rate: 0.001" in text
    assert load_config(Recipe, write(tmp_path, text)) == recipe


def test_an_unknown_key_gets_the_nearest_known_one(tmp_path):
    text = refusal(tmp_path, "training: {learning_rte: 1}\n")
    assert "training.learning_rte: unknown key. Did you mean 'learning_rate'?" in text
    assert "Known here: betas, learning_rate, steps." in text
    assert "losses.0.ssim.windw: unknown key. Did you mean 'window'?" in refusal(
        tmp_path, "losses: [{name: ssim, windw: 3}]"
    )
    assert "zzz: unknown key. Known here: arguments, losses" in refusal(tmp_path, "zzz: 1")


def test_every_wrong_value_is_listed_with_its_place(tmp_path):
    text = refusal(tmp_path, "training: {steps: -3, learning_rate: fast}\nname: [a]\n")
    assert len(text.splitlines()) == 3
    assert "training.steps: Input should be greater than 0 (seen '-3')" in text
    assert "training.learning_rate: Input should be a valid number" in text
    assert "name: Input should be a valid string" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b\n", "holds a list; expected 'key: value' lines"),
        ("just words", "holds a str"),
        ("a: [1, 2", "is no plain YAML"),
        ("a: 1\n---\nb: 2\n", "is no plain YAML"),
        ("name: a\nname: b\n", "line 2: key 'name' occurs twice"),
        ("training:\n  steps: 1\n  steps: 2\n", "line 3: key 'steps' occurs twice"),
        ("1: a\n", "line 1: key 1 is not text"),
        ("arguments: {x: .nan}\n", "arguments.x: nan is not a finite number"),
        ("arguments: {x: [1, -.inf]}\n", "arguments.x.1: -inf is not a finite number"),
        ("training: 3\n", "training: Input should be a valid dictionary"),
        ("name: 2020-01-01\n", "name: Input should be a valid string"),
        ("training:\n  steps: 0123\n", "line 2: YAML reads 0123 as 83. Write the number as it is meant"),
        ("training: {steps: 1:30}\n", "line 1: YAML reads 1:30 as 90"),
        ("training: {learning_rate: 1:30.5}\n", "line 1: YAML reads 1:30.5 as 90.5"),
        (
            "training: {steps: yes}\n",
            "training.steps: Input should be a number (seen True, as which YAML also reads yes",
        ),
        ("training: {betas: [0.5, off]}\n", "training.betas.1: Input should be a number (seen False"),
        ("losses: [{name: l1, weight: true}]\n", "losses.0.weight: Input should be a number"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path, text, expected):
    assert expected in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("training.steps", "--set training.steps: expected a.b=value"),
        (".steps=1", "expected a.b=value"),
        ("name.first=1", None),
        ("training.stepz=1", "training.stepz: unknown key. Did you mean 'steps'?"),
        ("training.steps=[", "--set training.steps: is no plain YAML"),
        ("training.steps=!!python/none x", "--set training.steps: is no plain YAML"),
        ("training.steps=010", "--set training.steps: line 1: YAML reads 010 as 8."),
        (
            "training.steps=on",
            "with --set training.steps=on: training.steps: Input should be a number (seen True",
        ),
    ],
)
def test_wrong_options_are_refused(option, expected):
    with pytest.raises(ConfigurationError) as caught:
        load_config(Recipe, overrides=[option])
    assert (expected or "name: Input should be a valid string") in str(caught.value)
    assert "--set" in str(caught.value)


def test_an_option_below_a_plain_value_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"--set name\.x=1: name is 'a' and has no parts to set"):
        load_config(Recipe, write(tmp_path, "name: a"), overrides=["name.x=1"])


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.yaml: no such configuration file"):
        load_config(Recipe, tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read as text"):
        load_config(Recipe, tmp_path)
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigurationError, match="cannot be read as text"):
        load_config(Recipe, path)


def test_settings_that_disagree_name_the_options_that_change_them():
    from image2reg.embedding.recipe import EncoderRecipe

    with pytest.raises(ConfigurationError) as caught:
        load_config(EncoderRecipe, overrides=["training.steps=20"])
    assert str(caught.value) == (
        "defaults with --set training.steps=20: training: warmup_steps=20 must be below steps=20. Change it with "
        "--set training.warmup_steps=… or --set training.steps=…."
    )


def test_settings_that_differ_are_named_by_their_path():
    before = Recipe.model_validate({"training": {"steps": 5}})
    now = Recipe.model_validate({"training": {"steps": 9}, "arguments": {"width": 2}})
    assert list(changed_settings(before, now).values()) == [
        "arguments.width: None -> 2",
        "training.steps: 5 -> 9",
    ]
    assert changed_settings(now, now) == {}
