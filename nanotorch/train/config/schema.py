"""`--schema`: the config as JSON Schema, by which editors complete keys and names and mark mistakes.

It says what one value may be; what values may not go together, only the trainer itself knows.
"""

from __future__ import annotations

import inspect
from typing import Any

from nanotorch.train.config.sections import SECTIONS, Config, NamedSection, section_class


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
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A config of nanotorch's trainer",
        "type": "object",
        "properties": properties,
        "required": whole["required"],
        "additionalProperties": False,
        "$defs": definitions,
    }


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
