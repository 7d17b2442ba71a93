"""Strict YAML into frozen classes: an unknown key, a duplicate, a tag or a bomb is refused and explained."""

from __future__ import annotations

import difflib
import math
import re
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from image2reg.errors import ConfigurationError

if typing.TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

__all__ = ["changed_settings", "dump_config", "load_config", "parse_yaml", "settings_by_name"]

M = TypeVar("M", bound=BaseModel)

_MAX_BYTES = 1_000_000
_MAX_ALIASES = 20
_MAX_DEPTH = 20
# libyaml's parser where PyYAML was built with it: ten times faster, the same events.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_Parser):
    """The safe loader, refusing keys that occur twice or are not text."""


class _Dumper(yaml.SafeDumper):
    """Quotes what `_StrictLoader` would read as a number."""


def _strict_mapping(loader: Any, node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise ConfigurationError(f"line {line}: key {key!r} is not text; put it in quotes.")
        if key in found:
            raise ConfigurationError(f"line {line}: key '{key}' occurs twice. Keep one of the two.")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


def _strict_number(loader: Any, node: yaml.ScalarNode) -> Any:
    """Refuse what YAML 1.1 takes for a number that nobody means: octal 0123 is 83, and 1:30 in base 60 is 90."""
    text, line = node.value, node.start_mark.line + 1
    made = (loader.construct_yaml_int if node.tag.endswith("int") else loader.construct_yaml_float)(node)
    decimal = text.replace("_", "")
    if ":" in text or (re.fullmatch(r"[-+]?0[0-9]+", decimal) and made != int(decimal)):
        raise ConfigurationError(
            f"line {line}: YAML reads {text} as {made}. Write the number as it is meant, or put text in quotes."
        )
    return made


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _strict_mapping)
for _kind in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _strict_number)
for _part in (_StrictLoader, _Dumper):
    # YAML 1.1 reads 1e-3 as text because it has no point; a learning rate is a number.
    _part.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )


def parse_yaml(text: str, *, where: str) -> Any:
    """Parse YAML made of mappings, lists and plain values.

    Parameters
    ----------
    text : str
        At most 1 MB, 20 aliases, 20 levels.
    where : str
        File or option, for errors.

    Raises
    ------
    ConfigurationError
        Too large, not YAML, several documents, a tag (``!!python/...``), a key twice, a number that is not
        finite, or that YAML 1.1 reads in base 8 or 60 (0123, 1:30).
    """
    if len(text) > _MAX_BYTES:
        raise ConfigurationError(
            f"{where}: {len(text)} characters; a configuration has at most {_MAX_BYTES}."
        )
    try:
        _refuse_bombs(text)
        content = _StrictLoader(text).get_single_data()
        _refuse_not_finite(content, "")
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise ConfigurationError(
            f"{where}: is no plain YAML ({problem}). Tags and code are not read."
        ) from error
    return content


def _refuse_bombs(text: str) -> None:
    """Count aliases and levels on the event stream, before anything is built."""
    depth = n_aliases = 0
    for event in yaml.parse(text, Loader=_Parser):
        n_aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if n_aliases > _MAX_ALIASES:
            raise ConfigurationError(f"more than {_MAX_ALIASES} aliases (*name). Write the values out.")
        if depth > _MAX_DEPTH:
            raise ConfigurationError(f"nested more than {_MAX_DEPTH} levels deep.")


def _refuse_not_finite(content: Any, path: str) -> None:
    if isinstance(content, float) and not math.isfinite(content):
        raise ConfigurationError(f"{path.strip('.')}: {content} is not a finite number.")
    items: Any = content.items() if isinstance(content, dict) else ()
    for key, value in enumerate(content) if isinstance(content, list) else items:
        _refuse_not_finite(value, f"{path}.{key}")


def load_config(model: type[M], source: Path | str | None = None, *, overrides: Sequence[str] = ()) -> M:
    """Build a configuration from its defaults, a YAML file that lists what differs, and ``--set`` options.

    Parameters
    ----------
    model : type
        pydantic class; it should forbid extra keys.
    source : Path or str, optional
        YAML file. None: the defaults.
    overrides : sequence of str
        ``a.b=value``, applied in order; the value is read as YAML.

    Returns
    -------
    An instance of `model`.

    Raises
    ------
    ConfigurationError
        The file cannot be read, a key is unknown (the nearest known one is named) or a value is not allowed.
    """
    where, content = "defaults", {}
    if source is not None:
        where = str(source)
        content = _read_mapping(Path(source))
    for option in overrides:
        _apply(content, option)
    if overrides:
        where += f" with --set {' --set '.join(overrides)}"
    if wrong := list(_switches_as_numbers([model], content, "")):
        raise ConfigurationError("\n".join(f"{where}: {line}" for line in wrong))
    try:
        return model.model_validate(_over_defaults(model, content))
    except ValidationError as error:
        raise ConfigurationError("\n".join(f"{where}: {line}" for line in _problems(model, error))) from error


def _switches_as_numbers(annotations: Collection[Any], given: Any, path: str) -> Iterator[str]:
    """Name the numbers for which true or false is given: pydantic would take them for 1 and 0."""
    if isinstance(given, bool):
        kinds = {kind for annotation in annotations for kind in _types_in(annotation)}
        if kinds & {int, float} and bool not in kinds:
            yield f"{path[1:]}: Input should be a number (seen {given}, as which YAML also reads yes, no, on and off)."
    elif isinstance(given, list):
        for number, value in enumerate(given):
            yield from _switches_as_numbers(annotations, value, f"{path}.{number}")
    elif isinstance(given, dict):
        models = {model for annotation in annotations for model in _models_in(annotation)}
        for key, value in given.items():
            inner = [model.model_fields[key].annotation for model in models if key in model.model_fields]
            yield from _switches_as_numbers(inner if models else annotations, value, f"{path}.{key}")


def _over_defaults(model: type[BaseModel], content: dict[str, Any]) -> dict[str, Any]:
    """Lay part of a section over the section's default, so that one key does not reset its neighbours."""
    merged = dict(content)
    for name, given in content.items():
        default = getattr(model.model_fields.get(name), "default", None)
        if isinstance(default, BaseModel) and isinstance(given, dict):
            merged[name] = {**default.model_dump(exclude_unset=True), **_over_defaults(type(default), given)}
    return merged


def dump_config(configuration: BaseModel) -> str:
    """Write a configuration as YAML, every default spelled out; `load_config` reads back an equal one."""
    content = configuration.model_dump(mode="json")
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def changed_settings(before: BaseModel, now: BaseModel) -> dict[str, str]:
    """Name the settings that differ, as ``loss.kind``, and say from what to what.

    Parameters
    ----------
    before, now : BaseModel
        Of one class.
    """
    old, new = settings_by_name(before), settings_by_name(now)
    return {
        name: f"{name}: {old.get(name)} -> {new.get(name)}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    }


def settings_by_name(configuration: BaseModel, *, without: Collection[str] = ()) -> dict[str, Any]:
    """Give settings as ``loss.kind`` to their values, JSON types; the parts called `without` are left out."""
    return _flat(configuration.model_dump(mode="json", exclude=set(without)))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    parts = [
        _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        for name, value in values.items()
    ]
    return {name: value for part in parts for name, value in part.items()}


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ConfigurationError(f"{path}: {size} bytes; a configuration has at most {_MAX_BYTES}.")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such configuration file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as text ({error}).") from error
    content = parse_yaml(text, where=str(path))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: holds a {type(content).__name__}; expected 'key: value' lines.")
    return content


def _apply(content: dict[str, Any], option: str) -> None:
    path, equals, text = option.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigurationError(f"--set {option}: expected a.b=value, for example training.steps=500.")
    value = parse_yaml(text, where=f"--set {path}")
    for depth, key in enumerate(keys[:-1]):
        inner = content.get(key)
        if inner is not None and not isinstance(inner, dict):
            seen = ".".join(keys[: depth + 1])
            raise ConfigurationError(f"--set {option}: {seen} is {inner!r} and has no parts to set.")
        # A copy: with a YAML alias the same mapping may stand in another place too.
        content[key] = dict(inner or {})
        content = content[key]
    content[keys[-1]] = value


def _problems(model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    """Give one line for each wrong key or value."""
    for item in error.errors(include_url=False, include_context=False)[:10]:
        *parents, key = item["loc"] or ("the whole",)
        path = ".".join(map(str, (*parents, key)))
        if item["type"] == "extra_forbidden":
            known = sorted({name for owner in _models_at(model, parents) for name in owner.model_fields})
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            guess = f" Did you mean '{near[0]}'?" if near else ""
            yield f"{path}: unknown key.{guess} Known here: {', '.join(known)}."
        elif item["type"] == "missing":
            yield f"{path}: missing, and it has no default."
        elif item["type"] == "value_error":
            yield f"{path}: {_disagreement(model, item['loc'], item['msg'].removeprefix('Value error, '))}"
        else:
            yield f"{path}: {item['msg']} (seen {str(item['input'])[:80]!r})."


def _disagreement(model: type[BaseModel], path: Sequence[int | str], reason: str) -> str:
    """Give a validator's reason, and the options that change what it names as ``name=value``."""
    known = {name for owner in _models_at(model, path) for name in owner.model_fields}
    named = [name for name in dict.fromkeys(re.findall(r"(\w+)=", reason)) if name in known]
    options = " or ".join(f"--set {'.'.join(map(str, (*path, name)))}=…" for name in named)
    return f"{reason}. Change it with {options}." if options else f"{reason}."


def _models_at(model: type[BaseModel], path: Sequence[int | str]) -> set[type[BaseModel]]:
    """Classes that may stand at `path`; list positions and union tags in it are passed over."""
    found = {model}
    for part in path:
        inner = {
            inner
            for owner in found
            if part in owner.model_fields
            for inner in _models_in(owner.model_fields[str(part)].annotation)
        }
        found = inner or found
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    return (kind for kind in _types_in(annotation) if issubclass(kind, BaseModel))


def _types_in(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _types_in(argument)
