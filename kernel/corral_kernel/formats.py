"""Which constraint a request's `format` asks for."""

from typing import Any

import msgspec

from corral_kernel.errors import CorralError, InvalidFormatError, PluginError, UnknownFormatError
from corral_kernel.given import SCHEMA_TYPES
from corral_kernel.plugins import Plugins

FORMAT_BYTES = 1 << 20
"""A longer format is refused before it is decoded: that would hold up everybody's tokens."""

JSON, SCHEMA = "json", "schema"


def check_format(given: bytes, plugins: Plugins) -> str:
    """Give the name of the constraint type for a format, which that type has looked at.

    Args:
        given: JSON text: `"json"`, a JSON Schema, or an object whose `type` a plugin registered.
        plugins: Whose types serve.

    Raises:
        InvalidFormatError: If it is none of these, too long, or refused by its type.
        UnknownFormatError: If it is of a type that no installed plugin gives.
        PluginError: If the type fails while it looks.
    """
    spec = _decoded(given)
    name = _name(spec, given)
    found = plugins.constraints.get(name)
    if found is None:
        have = ", ".join(sorted(plugins.constraints)) or "none"
        raise UnknownFormatError(
            f"no installed plugin gives the format {name!r}; there are: {have} "
            "(json, schema, regex, choice, lark and gbnf come with pip install 'corral[llamacpp]')"
        )
    plugin, kind = found
    try:
        kind.check(spec)
    except CorralError:
        raise
    except Exception as error:
        plugin.report(f"{type(kind).__name__}.check", error)
        raise PluginError(f"plugin {plugin.name!r} failed on this format: {error}") from error
    return name


def format_kind(given: bytes) -> str:
    """Give the name of the constraint type for a format, whether there is one of it or not.

    Raises:
        InvalidFormatError: If it is no format at all.
    """
    return _name(_decoded(given), given)


def _decoded(given: bytes) -> Any:
    if len(given) > FORMAT_BYTES:
        raise InvalidFormatError(f"the format has {len(given)} bytes, over {FORMAT_BYTES}")
    try:
        return msgspec.json.decode(given)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidFormatError(f"the format is no JSON that can be read: {error}") from error


def _name(spec: Any, given: bytes) -> str:
    if spec == JSON:
        return JSON
    if not isinstance(spec, dict):
        words = given.decode("utf-8", "replace")
        raise InvalidFormatError(
            f'invalid format: {words}; expected "json" or a valid JSON Schema object'
        )
    kind = spec.get("type", "object")
    return SCHEMA if not isinstance(kind, str) or kind in SCHEMA_TYPES else kind
