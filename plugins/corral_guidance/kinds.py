"""JSON: any object, or what a JSON Schema allows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from corral_guidance.guided import GuidedType
from corral_guidance.places import place
from corral_guidance.schema import checked, checked_nodes, is_small
from corral_kernel.errors import InvalidFormatError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions  # exists for type checkers alone

# One blank, or a line's end with an indent. Without a bound models go on with blanks for ever.
_JSON_SPACE: JsonCompileOptions = {
    "whitespace_flexible": True,
    "whitespace_pattern": r" |\n[ \t]{0,20}",
}
# As most JSON in training data is written. With nothing left to choose, llguidance forces it.
SCHEMA_SPACE: JsonCompileOptions = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}


class JsonType(GuidedType):
    """Any JSON object."""

    name = "json"
    examples = ("json",)

    def check(self, spec: Any) -> None:
        """Make sure that the spec is the text `json`.

        Raises:
            InvalidFormatError: If it is not.
        """
        if spec != "json":
            raise InvalidFormatError('format at #: wanted the text "json"')

    def write(self, spec: Any) -> tuple[str, bool]:
        """Give llguidance's form.

        Raises:
            InvalidFormatError: If the spec is another.
        """
        self.check(spec)
        return _written({"type": "object"}, _JSON_SPACE), True


class SchemaType(GuidedType):
    """JSON that a JSON Schema allows, keys in the schema's order."""

    name = "schema"
    examples = (
        {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
            "required": ["name"],
        },
    )

    def check(self, spec: Any) -> None:
        """Look at a schema's shape, its size, and for what cannot be enforced.

        Raises:
            InvalidFormatError: What is wrong, with a JSON pointer to where.
        """
        checked(spec)

    def write(self, spec: Any) -> tuple[str, bool]:
        """Give llguidance's form of a schema.

        Raises:
            InvalidFormatError: What is wrong, with a JSON pointer to where.
        """
        schema = checked(spec)
        return _written(schema, SCHEMA_SPACE), is_small(schema)

    def place(self, spec: Any, why: str) -> str:
        """Give the JSON pointer to what an error of the compiler is about."""
        return place(why, spec, checked_nodes(spec))


def _written(schema: dict[str, Any], options: JsonCompileOptions) -> str:
    from llguidance import LLMatcher  # native: only ever in a worker

    text: str = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=options)
    return text
