"""`--schema`: the config as JSON Schema, by which editors complete keys and names and mark mistakes.

It says what one value may be; what values may not go together, only the trainer itself knows.
"""

from __future__ import annotations

import inspect
from typing import Any

from nanotorch.train.config.sections import SECTIONS, Config, NamedSection, section_class
from nanotorch.train.config.sweep_axes import DISTRIBUTIONS
from nanotorch.train.config.sweep_checks import refused


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a config, with every registered name and its arguments."""
    whole: dict[str, Any] = Config.model_json_schema()
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for key, shape in whole["properties"].items():
        section = SECTIONS.get(key)
        if section is None:
            properties[key] = _tidy(shape)
            continue
        if issubclass(section, NamedSection):
            names = section.registry.names()
            for name in names:
                definitions[f"{key}-{name}"] = _named(section, name)
            properties[key] = {"anyOf": [{"$ref": f"#/$defs/{key}-{name}"} for name in names]}
        else:
            definitions[key] = _object(section)
            properties[key] = {"$ref": f"#/$defs/{key}"}
        properties[key]["description"] = _doc(section)
        if key not in whole["required"] and Config.model_fields[key].default is None:
            alternatives = properties[key].pop("anyOf", None) or [{"$ref": properties[key].pop("$ref")}]
            properties[key]["anyOf"] = [*alternatives, {"type": "null"}]
    _describe_sweep(definitions, properties)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A config of nanotorch's trainer",
        "type": "object",
        "properties": properties,
        "required": [key for key in whole["required"] if key not in ("model", "name")],
        "anyOf": [{"required": ["model"]}, {"required": ["preset"]}],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _describe_sweep(definitions: dict[str, Any], properties: dict[str, Any]) -> None:
    """Let the section of a sweep have every key that may be swept, dotted or nested, with the values to try."""
    bounds = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    for word in DISTRIBUTIONS:
        definitions[f"distribution-{word}"] = {
            "type": "object",
            "properties": {word: bounds},
            "required": [word],
            "additionalProperties": False,
        }
    section = definitions["sweep"]
    for key, shape in properties.items():
        if refused(key) is None:
            section["properties"][key] = _axis(key, [shape])
        names = [name for name in definitions if name == key or name.startswith(f"{key}-")]
        inner: dict[str, list[Any]] = {}
        for name in names:
            for part, described in definitions[name]["properties"].items():
                shapes = inner.setdefault(part, [])
                shapes += [described] if described not in shapes else []
        swept = {
            f"{key}.{part}": _axis(part, shapes) for part, shapes in inner.items() if refused(f"{key}.{part}") is None
        }
        section["properties"] |= swept
        if key in section["properties"] and swept:
            nested = {name.partition(".")[2]: {"$ref": f"#/$defs/sweep/properties/{name}"} for name in swept}
            section["properties"][key]["anyOf"].append(
                {"type": "object", "properties": nested, "additionalProperties": False, "minProperties": 1}
            )
    section["patternProperties"] = {r"^[a-z_]+\.[A-Za-z_]+\.[0-9]+$": _axis("", [{}])}  # an index of a list


def _axis(key: str, shapes: list[Any]) -> dict[str, Any]:
    """Return values to try, each of which has one of these shapes: a list, a choice, or a distribution."""
    each = {"description": shapes[0].get("description", ""), "anyOf": shapes} if len(shapes) > 1 else shapes[0]
    values = {"type": "array", "items": each, "minItems": 1}
    choice = {"type": "object", "properties": {"choice": values}, "required": ["choice"], "additionalProperties": False}
    drawn = [{"$ref": f"#/$defs/distribution-{word}"} for word in DISTRIBUTIONS]
    return {"anyOf": [values, choice, *drawn, *([{"type": "integer", "minimum": 1}] if key == "seed" else [])]}


def _named(section: type[NamedSection], name: str) -> dict[str, Any]:
    """Return the section with one registered name in it."""
    shape = _object(section_class(section, name))
    shape["properties"]["name"] = {"const": name, "description": section.registry.summary(name)}
    shape["description"] = section.registry.summary(name)
    optional = section.model_fields["name"].default == name or name in section.name_of_key.values()
    shape["required"] = [key for key in shape.get("required", ()) if key != "name"] + ([] if optional else ["name"])
    return shape


def _object(section: Any) -> dict[str, Any]:
    shape: dict[str, Any] = section.model_json_schema()
    shape["properties"] = {key: _tidy(value) for key, value in shape["properties"].items()}
    shape["additionalProperties"] = False
    shape.pop("title", None)
    shape["description"] = _doc(section)
    return shape


def _tidy(shape: dict[str, Any]) -> dict[str, Any]:
    """Without the titles that repeat the key."""
    return {key: value for key, value in shape.items() if key != "title"}


def _doc(section: Any) -> str:
    return " ".join((inspect.getdoc(section) or "").split())
