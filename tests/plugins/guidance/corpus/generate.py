"""Writes `generated.json`: schemas as people and tools write them, by a fixed seed.

Each style puts together what schemas of that kind are made of, now and then with a keyword that
cannot be enforced, about as often as one meets it. Run it as a script after a change.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

# ruff: noqa: C901, PLR0911 - a style is many choices, and none of them a secret

SEED = 20_240_229
PER_STYLE = 45
FILE = Path(__file__).with_name("generated.json")

WORDS = [
    "account",
    "address",
    "amount",
    "author",
    "balance",
    "branch",
    "category",
    "city",
    "code",
    "color",
    "comment",
    "count",
    "country",
    "created",
    "currency",
    "customer",
    "date",
    "description",
    "device",
    "discount",
    "duration",
    "email",
    "enabled",
    "end",
    "error",
    "event",
    "file",
    "filter",
    "first_name",
    "gender",
    "group",
    "hash",
    "height",
    "host",
    "id",
    "image",
    "index",
    "item",
    "key",
    "kind",
    "label",
    "language",
    "last_name",
    "latitude",
    "level",
    "limit",
    "link",
    "list",
    "location",
    "longitude",
    "message",
    "method",
    "mode",
    "name",
    "namespace",
    "note",
    "number",
    "offset",
    "order",
    "owner",
    "page",
    "parent",
    "path",
    "phone",
    "port",
    "price",
    "priority",
    "product",
    "quantity",
    "query",
    "rate",
    "rating",
    "reason",
    "region",
    "replicas",
    "role",
    "score",
    "secret",
    "size",
    "sku",
    "source",
    "start",
    "state",
    "status",
    "street",
    "subject",
    "tag",
    "target",
    "tax",
    "team",
    "temperature",
    "text",
    "theme",
    "time",
    "timeout",
    "title",
    "token",
    "total",
    "type",
    "unit",
    "updated",
    "url",
    "user",
    "value",
    "vendor",
    "version",
    "weight",
    "width",
    "zip",
]
FORMATS = ("date-time", "date", "email", "uri", "uuid", "hostname", "ipv4", "ipv6", "time",
           "duration")  # fmt: skip
PATTERNS = (
    "^[a-z][a-z0-9_-]*$", "^[A-Z]{3}$", r"^\d{5}(-\d{4})?$", "^#[0-9a-fA-F]{6}$",
    "^v?[0-9]+[.][0-9]+$", r"^\+?[0-9 ()-]{7,20}$", "^(GET|POST|PUT|DELETE)$", r"^\S+@\S+$",
    "^[^/]+/[^/]+$", "[0-9]",
    r"^\d+(\.\d+){0,2}$", "^sha256-[0-9a-f]{64}$", "^(0|[1-9][0-9]*)(ms|s|m|h)$", r"^\w+$",
    "^.{3,8}$",
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", r"^\$\{\{ [a-z.]+ \}\}$", "^(https?|ssh)://[^ ]+$",
)  # fmt: skip
VALUES = ("active", "archived", "blue", "daily", "debug", "draft", "error", "green", "high", "info",
          "large", "low", "medium", "monthly", "none", "pending", "red", "small", "warn",
          "weekly")  # fmt: skip

Schema = dict[str, Any]


class Maker:
    """Makes schemas of one style.

    Args:
        draw: Where its choices come from.
    """

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw

    def chance(self, share: float) -> bool:
        return self.draw.random() < share

    def names(self, count: int) -> list[str]:
        return self.draw.sample(WORDS, count)

    def text(self) -> Schema:
        schema: Schema = {"type": "string"}
        roll = self.draw.random()
        if roll < 0.15:
            schema["enum"] = self.draw.sample(VALUES, self.draw.randint(2, 8))
        elif roll < 0.30:
            schema["format"] = self.draw.choice(FORMATS)
        elif roll < 0.40:
            schema["pattern"] = self.draw.choice(PATTERNS)
        elif roll < 0.55:
            low = self.draw.choice([0, 1, 2])
            schema |= {"minLength": low, "maxLength": low + self.draw.choice([3, 8, 20, 255])}
        return schema

    def number(self) -> Schema:
        schema: Schema = {"type": self.draw.choice(["integer", "integer", "number"])}
        roll = self.draw.random()
        if roll < 0.35:
            low = self.draw.choice([0, 1, -90, -180, 100])
            schema |= {"minimum": low, "maximum": low + self.draw.choice([1, 10, 180, 65535])}
        elif roll < 0.5:
            schema["minimum"] = self.draw.choice([0, 1])
        elif roll < 0.55:
            schema["multipleOf"] = self.draw.choice([2, 5, 10, 0.5, 0.01])
        elif roll < 0.6:
            schema |= {"exclusiveMinimum": 0, "exclusiveMaximum": self.draw.choice([1, 100.5])}
        elif roll < 0.63:
            schema |= {"type": "integer", "format": "int64", "maximum": 2**63 - 1}
        return schema

    def plain(self) -> Schema:
        make = self.draw.choice([self.text, self.text, self.text, self.number, self.number, dict])
        schema = make()
        return schema or {"type": "boolean"}

    def listed(self, item: Schema) -> Schema:
        schema = {"type": "array", "items": item}
        if self.chance(0.3):
            schema |= {
                "minItems": self.draw.choice([0, 1]),
                "maxItems": self.draw.choice([2, 5, 100]),
            }
        if self.chance(0.05):
            schema["uniqueItems"] = True
        return schema

    def value(self, depth: int) -> Schema:
        roll = self.draw.random()
        if depth == 0 or roll < 0.65:
            return self.plain()
        if roll < 0.8:
            return self.listed(self.value(depth - 1))
        if roll < 0.95:
            return self.record(depth - 1)
        return {"type": "object", "additionalProperties": self.plain()}

    def record(self, depth: int) -> Schema:
        names = self.names(self.draw.randint(1, 5))
        schema: Schema = {
            "type": "object",
            "properties": {name: self.value(depth) for name in names},
        }
        required = [name for name in names if self.chance(0.6)]
        if required:
            schema["required"] = required
        if self.chance(0.3):
            schema["additionalProperties"] = False
        return schema

    # ----------------------------------------------------------------------------- styles

    def pydantic(self) -> Schema:
        """As pydantic writes its models: titles, $defs, null as a default."""
        models = [name.title() for name in self.names(self.draw.randint(1, 4))]

        def field(name: str) -> Schema:
            roll = self.draw.random()
            model = {"$ref": f"#/$defs/{self.draw.choice(models)}"}
            title = name.replace("_", " ").title()
            if roll < 0.15:
                return {"anyOf": [self.plain(), {"type": "null"}], "default": None, "title": title}
            if roll < 0.25:
                return {"anyOf": [model, {"type": "null"}], "default": None}
            if roll < 0.32:
                return {**self.listed(model), "title": title, "default": []}
            if roll < 0.37:
                return {"additionalProperties": self.plain(), "type": "object", "title": title}
            if roll < 0.41:
                items = [self.plain() for _ in range(self.draw.randint(2, 3))]
                return {"type": "array", "prefixItems": items, "minItems": len(items),
                        "maxItems": len(items), "title": title}  # fmt: skip
            if roll < 0.44:
                return {"const": self.draw.choice(VALUES), "title": title, "type": "string"}
            if roll < 0.46:
                return {"additionalProperties": self.plain(), "type": "object", "title": title,
                        "propertyNames": {"enum": self.draw.sample(VALUES, 3)}}  # fmt: skip
            if roll < 0.48:
                return {"type": "object", "title": title,
                        "patternProperties": {"^[a-z]{2}$": self.plain()}}  # fmt: skip
            if roll < 0.49:  # Decimal
                lookahead = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"
                return {"anyOf": [{"type": "number"}, {"type": "string", "pattern": lookahead}]}
            return {**self.plain(), "title": title}

        def model(title: str) -> Schema:
            names = self.names(self.draw.randint(1, 6))
            properties = {name: field(name) for name in names}
            required = [name for name in names if "default" not in properties[name]]
            schema = {"properties": properties, "title": title, "type": "object"}
            return {**schema, "required": required} if required else schema

        defs = {name: model(name) for name in models}
        schema = {"$defs": defs, **model("Root")}
        if self.chance(0.35):
            kinds = self.names(self.draw.randint(2, 3))
            for kind in kinds:
                made = model(kind.title())
                made["properties"] = {
                    "type": {"const": kind, "type": "string"},
                    **made["properties"],
                }
                made["required"] = ["type", *(n for n in made.get("required", ()) if n != "type")]
                defs[f"{kind.title()}Kind"] = made
            refs = [{"$ref": f"#/$defs/{kind.title()}Kind"} for kind in kinds]
            mapping = {kind: ref["$ref"] for kind, ref in zip(kinds, refs, strict=True)}
            discriminator = {"mapping": mapping, "propertyName": "type"}
            schema["properties"]["shape"] = {"discriminator": discriminator, "oneOf": refs}
        return schema

    def function(self) -> Schema:
        """As the arguments of a function that a model may call."""
        schema = self.record(self.draw.choice([0, 1, 2]))
        for name, child in schema["properties"].items():
            child["description"] = f"The {name} of the thing, e.g. {self.draw.choice(VALUES)}"
        if self.chance(0.5):
            schema["required"] = [*schema["properties"]]
            schema["additionalProperties"] = False
            for name, child in schema["properties"].items():
                if isinstance(child.get("type"), str) and "enum" not in child and self.chance(0.2):
                    schema["properties"][name] = {**child, "type": [child["type"], "null"]}
        return schema

    def workflow(self) -> Schema:
        """As configuration files have it: definitions, patterns for keys, one thing or a list."""
        words = self.names(4)
        definitions: Schema = {
            "name": {"type": "string", "pattern": "^[_a-zA-Z][a-zA-Z0-9_-]*$"},
            "texts": {
                "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
            },
            "env": {
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean"]},
            },
            "step": {
                "type": "object",
                "properties": {
                    "uses": {"type": "string"},
                    "run": {"type": "string"},
                    "env": {"$ref": "#/definitions/env"},
                    words[0]: self.plain(),
                },
                "additionalProperties": False,
            },
            "job": {
                "type": "object",
                "properties": {
                    "needs": {"$ref": "#/definitions/texts"},
                    "steps": {
                        "type": "array",
                        "items": {"$ref": "#/definitions/step"},
                        "minItems": 1,
                    },
                    words[1]: self.value(1),
                },
                "required": ["steps"],
                "additionalProperties": self.chance(0.2),
            },
        }
        if self.chance(0.12):
            definitions["step"]["dependencies"] = {words[0]: ["run"]}
        if self.chance(0.08):
            definitions["step"] |= {"not": {"required": ["uses", "run"]}}
        jobs: Schema = {
            "type": "object",
            "patternProperties": {"^[_a-zA-Z][a-zA-Z0-9_-]*$": {"$ref": "#/definitions/job"}},
            "minProperties": 1,
            "additionalProperties": False,
        }
        return {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$comment": "made up",
            "definitions": definitions,
            "type": "object",
            "properties": {
                "name": {"$ref": "#/definitions/name"},
                "on": {"$ref": "#/definitions/texts"},
                "env": {"$ref": "#/definitions/env"},
                words[2]: self.value(2),
                "jobs": jobs,
            },
            "required": ["on", "jobs"],
            "additionalProperties": False,
        }

    def resource(self) -> Schema:
        """As Kubernetes describes its resources."""
        group = f"io.made.up.v{self.draw.randint(1, 3)}"
        number_or_text = self.draw.choice(["oneOf", "anyOf"])
        definitions: Schema = {
            f"{group}.ObjectMeta": {
                "description": "Metadata that all resources have.",
                "properties": {
                    "name": {"type": ["string", "null"]},
                    "labels": {"additionalProperties": {"type": "string"}, "type": "object"},
                    "creationTimestamp": {"format": "date-time", "type": "string"},
                    "generation": {"format": "int64", "type": "integer"},
                },
                "type": "object",
            },
            f"{group}.Quantity": {number_or_text: [{"type": "string"}, {"type": "integer"}]},
        }
        spec = self.record(2)
        spec["properties"] |= {
            "replicas": {"format": "int32", "type": "integer", "minimum": 0, "maximum": 2**31 - 1},
            "limits": {"additionalProperties": {"$ref": f"#/definitions/{group}.Quantity"}},
            "data": {"format": "byte", "type": "string"},
        }
        spec["x-kubernetes-map-type"] = "atomic"
        definitions[f"{group}.Spec"] = spec
        return {
            "definitions": definitions,
            "properties": {
                "apiVersion": {"type": "string", "enum": ["v1", "apps/v1"]},
                "kind": {"type": "string", "enum": [self.names(1)[0].title()]},
                "metadata": {"$ref": f"#/definitions/{group}.ObjectMeta"},
                "spec": {"$ref": f"#/definitions/{group}.Spec"},
            },
            "required": ["apiVersion", "kind"],
            "type": "object",
            "x-kubernetes-group-version-kind": [{"group": "", "kind": "Thing", "version": "v1"}],
        }

    def body(self) -> Schema:
        """As the body of a request or answer of an HTTP API."""
        schema = self.record(2)
        roll = self.draw.random()
        if roll < 0.2:
            base, more = self.record(1), self.record(1)
            base.pop("additionalProperties", None)
            more.pop("additionalProperties", None)
            return {"allOf": [{"$ref": "#/components/Base"}, more], "components": {"Base": base}}
        if roll < 0.35:
            return {"type": "array", "items": schema, "maxItems": self.draw.choice([3, 10])}
        if roll < 0.5:
            error = {"type": "object", "properties": {"error": {"type": "string"}},
                     "required": ["error"], "additionalProperties": False}  # fmt: skip
            schema["properties"] = {"data": self.value(1), **schema["properties"]}
            schema["required"] = ["data", *schema.get("required", ())]
            return {self.draw.choice(["anyOf", "oneOf"]): [schema, error]}
        if roll < 0.55:
            first = next(iter(schema["properties"]))
            return {**schema, "if": {"required": [first]}, "then": {"minProperties": 1}}
        if roll < 0.6:
            schema["dependentRequired"] = {"coupon": ["code"]}
        if roll < 0.65:
            schema |= {"minProperties": 1, "maxProperties": 20}
        return schema

    def store(self) -> Schema:
        """As in stores of schemas: old drafts, ids, defaults, examples, recursion."""
        schema = self.record(1)
        schema = {"$id": "https://example.org/made-up.json", "title": "Made up", **schema}
        schema["$schema"] = self.draw.choice(
            [f"http://json-schema.org/draft-0{n}/schema#" for n in (6, 7)]
            + ["https://json-schema.org/draft/2020-12/schema"]
        )
        schema["properties"]["children"] = {"type": "array", "items": {"$ref": "#"}, "default": []}
        for name, child in schema["properties"].items():
            if self.chance(0.3):
                child["examples"] = ["some", 1]
            if self.chance(0.2):
                child["$comment"] = f"about {name}"
        if self.chance(0.05):
            schema["properties"]["tags"] = {"type": "array", "contains": {"type": "string"}}
        if self.chance(0.5):
            schema["properties"]["node"] = {"$ref": "#/$defs/node"}
            schema["$defs"] = {
                "node": {
                    "type": "object",
                    "properties": {
                        "value": self.plain(),
                        "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                        "right": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                    },
                    "required": ["value"],
                    "additionalProperties": False,
                }
            }
        return schema

    def labels(self) -> Schema:
        """As for classification and extraction: large enumerations, scores, spans."""
        count = self.draw.choice([3, 20, 100, 400])
        labels = [f"{self.draw.choice(WORDS)}/{number}" for number in range(count)]
        entry: Schema = {
            "type": "object",
            "properties": {
                "label": {"type": "string", "enum": labels},
                "score": {"type": "number", "minimum": 0, "maximum": 1},
                "span": {
                    "type": "array",
                    "prefixItems": [{"type": "integer", "minimum": 0}] * 2,
                    "items": False,
                    "minItems": 2,
                },
                **{name: self.plain() for name in self.names(self.draw.randint(0, 2))},
            },
            "required": ["label", "score"],
            "additionalProperties": False,
        }
        return entry if self.chance(0.4) else {"type": "array", "items": entry, "maxItems": 4}


def generate() -> dict[str, Schema]:
    """Give all schemas by name."""
    made: dict[str, Schema] = {}
    styles: list[Callable[[Maker], Schema]] = [
        Maker.pydantic,
        Maker.function,
        Maker.workflow,
        Maker.resource,
        Maker.body,
        Maker.store,
        Maker.labels,
    ]
    for style in styles:
        for number in range(PER_STYLE):
            seed = f"{SEED} {style.__name__} {number}"
            made[f"{style.__name__} {number}"] = style(Maker(random.Random(seed)))
    return made


def written() -> str:
    """Give the text of the file: a schema a line."""
    lines = (f"{json.dumps(name)}: {json.dumps(made)}" for name, made in generate().items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(written())
