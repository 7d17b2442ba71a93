"""Any configuration survives dump and load; any text gives a configuration or a `ConfigurationError`."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from image2reg.config import dump_config, load_config, parse_yaml
from image2reg.errors import ConfigurationError
from image2reg.models.settings import TrainingSettings


class Anything(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    text: str = ""
    number: float = 0.0
    content: dict[str, Any] = {}


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words
nested = st.recursive(
    plain, lambda x: st.lists(x, max_size=3) | st.dictionaries(words, x, max_size=3), max_leaves=5
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "x.yaml"


@settings(max_examples=25)
@given(
    text=words,
    number=st.floats(allow_nan=False, allow_infinity=False),
    content=st.dictionaries(words, nested),
)
@example(
    text="1e5", number=1e-7, content={"a": "2E+10", "b": "on", "c": "~", "<<": "x", "": "=", "12:30": "0o7"}
)
def test_dump_and_load_is_identity(file, text, number, content):
    configuration = Anything(text=text, number=number, content=content)
    file.write_text(dump_config(configuration), encoding="utf-8")
    assert load_config(Anything, file) == configuration


@given(
    steps=st.integers(1, 10**6),
    rate=st.floats(1e-9, 10),
    decay=st.none() | st.floats(0, 0.9999),
    schedule=st.sampled_from(["cosine", "constant"]),
)
def test_training_settings_survive_too(file, steps, rate, decay, schedule):
    training = TrainingSettings(
        steps=steps, batch_size=2, learning_rate=rate, ema_decay=decay, schedule=schedule
    )
    file.write_text(dump_config(training), encoding="utf-8")
    assert load_config(TrainingSettings, file) == training


def is_plain(content: Any) -> bool:
    """Whether there is nothing in it but mappings, lists and values: what no tag or code could have made."""
    if isinstance(content, dict):
        return all(is_plain(k) and is_plain(v) for k, v in content.items())
    if isinstance(content, list):
        return all(map(is_plain, content))
    return content is None or type(content) in (str, int, float, bool, datetime.date, datetime.datetime)


@given(st.text(max_size=60) | st.text(alphabet="{}[]&*!:-,'\"#|>%@ \n\tab1.?<=~", max_size=60))
@example("a: &x [*x]")
@example("!!python/object/apply:os.system ['true']")
@example("? [a]\n: 1")
@example("<<: {a: 1}")
def test_any_text_gives_plain_values_or_one_error_that_says_where(text):
    content, problem = None, "text: "
    try:
        content = parse_yaml(text, where="text")
    except ConfigurationError as error:
        problem = str(error)
    assert problem.startswith("text: ")
    assert is_plain(content)
