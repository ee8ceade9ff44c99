"""Write the types of settings as a JSON schema, by which editors complete and check a run."""

from typing import Any

from pydantic import TypeAdapter

from wsss.segment.presets import presets
from wsss.settings import methods
from wsss.settings.check import run_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a run as papers have it: its method, and overrides of any section.

    No key is required but ``method``: a name, or a mapping with ``name``.
    """
    schema = _optional(TypeAdapter(run_of(*methods.names())).json_schema())
    run, definitions = schema["properties"], schema["$defs"]
    definitions["DeepLab"]["properties"]["preset"] = {"enum": list(presets())}
    own = run["method"]["anyOf"]
    for reference in own:
        definitions[reference["$ref"].rpartition("/")[2]]["required"] = ["name"]
    run["method"] = {"anyOf": [{"enum": methods.names()}, *own]}
    run["note"] = {"type": "string"}
    return {"$schema": DIALECT, **schema, "title": "A run", "required": ["method"]}


def _optional(schema: Any) -> Any:
    """Copy ``schema`` without the keys that a complete mapping must have."""
    if isinstance(schema, list):
        return [_optional(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _optional(inner) for key, inner in schema.items() if key != "required"}
