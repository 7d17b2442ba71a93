"""F19: YAML bombs, tags, duplicate and unknown keys are refused with a suggestion, before anything is built.

That a bomb is refused before it is expanded shows in that the tests end: each would fill the memory.
"""

from __future__ import annotations

import pytest

from image2reg.config import load_config
from image2reg.errors import ConfigurationError
from image2reg.models.settings import TrainingSettings

LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)
NESTED_MAPS = "a: " + "".join(f"{'{'}a: " for _ in range(2000)) + "1" + "}" * 2000

ATTACKS = {
    "a billion laughs": (LAUGHS, "more than 20 aliases (*name). Write the values out."),
    "deep lists": ("a: " + "[" * 100_000, "nested more than 20 levels deep"),
    "deep mappings": (NESTED_MAPS, "nested more than 20 levels deep"),
    "deep block lists": ("- " * 50_000 + "a", "nested more than 20 levels deep"),
    "a list within itself": ("a: &a [*a]", "is no plain YAML"),
    "a mapping within itself": ("&a {b: *a}", "is no plain YAML"),
    "python object": (
        "steps: !!python/object/apply:os.system ['touch {sentinel}']",
        "Tags and code are not read",
    ),
    "python name": ("steps: !!python/name:os.system", "Tags and code are not read"),
    "own tag": ("steps: !run 'touch {sentinel}'", "Tags and code are not read"),
    "merge key": ("<<: {steps: 1}", "is no plain YAML"),
    "duplicate key": ("steps: 1\nsteps: 2", "line 2: key 'steps' occurs twice. Keep one of the two."),
    "unknown key": ("stepz: 1\nbatch_size: 1", "stepz: unknown key. Did you mean 'steps'?"),
    "two megabytes": ("steps: 1 #" + "x" * 2_000_000, "2000010 bytes; a configuration has at most 1000000"),
    "control characters": ("steps: \x00\x01", "is no plain YAML"),
    "unknown alias": ("steps: *nothing", "is no plain YAML"),
    "a huge integer": ("steps: " + "9" * 6000, "is no plain YAML"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_yaml_is_refused(tmp_path, name):
    text, expected = ATTACKS[name]
    sentinel = tmp_path / "ran"
    path = tmp_path / "recipe.yaml"
    path.write_text(text.replace("{sentinel}", str(sentinel)))
    with pytest.raises(ConfigurationError) as caught:
        load_config(TrainingSettings, path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2
    assert not sentinel.exists()


def test_as_an_option_too():
    with pytest.raises(ConfigurationError, match=r"--set steps: more than 20 aliases"):
        load_config(TrainingSettings, overrides=[f"steps={{{LAUGHS.strip().replace(chr(10), ', ')}}}"])


def test_a_few_aliases_are_allowed(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("steps: &n 7\nbatch_size: *n\nvalidate_every: *n\n")
    assert load_config(TrainingSettings, path).validate_every == 7
