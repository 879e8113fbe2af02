"""Decodes a request body into its struct, whatever its content type says.

    request = decode(body, GenerateRequest)      # DecodeError, with upstream's text, if it is bad

A plain, well-formed body takes msgspec's fast reader. Whatever is odd about one (bytes after the
value, invalid UTF-8, a wrong type) sends it to the exact reader, which tells what upstream would.
"""

import functools
from typing import Any, Final, TypeVar

import msgspec

from corral_api.wire.decoding import Decoding, Kind, NotPlainError, StoppedError
from corral_api.wire.gojson import DecodeError, Node, Scanner
from corral_api.wire.kinds import Record, fold

MAX_JSON_BYTES: Final = 256 * 1024 * 1024
"""The largest body that is read as JSON: some sixty photographs in base64."""

MAX_JSON_VALUES: Final = 2_000_000
"""The most values that a body may hold, as far as commas and brackets tell; bounds the memory."""

_COUNTED_FROM_BYTES: Final = 2 * 1024 * 1024  # a smaller body cannot hold too many

Request = TypeVar("Request", bound=msgspec.Struct)


def decode(body: bytes, struct: type[Request]) -> Request:
    """Decode the first JSON value of `body`.

    Field names match in any letter case, the last of several counts, null is as good as absent,
    and what the struct does not know is ignored.

    Args:
        body: The whole request body.
        struct: One of the requests of `corral_api.wire.requests`, or any other msgspec struct
            whose fields carry kinds.

    Raises:
        DecodeError: If there is no value, it is no JSON, or a field has a wrong type.
    """
    _check_size(body)
    try:
        request: Request = _decode_plain(body, record(struct))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, NotPlainError):
        request = _decode_exactly(body, record(struct))
    return request


@functools.cache
def record(struct: type[msgspec.Struct]) -> Record:
    """Give the one `Record` of a request's struct."""
    return Record(struct)


def _check_size(body: bytes) -> None:
    if len(body) > MAX_JSON_BYTES:
        raise DecodeError(f"request body is larger than {MAX_JSON_BYTES} bytes")
    if len(body) > _COUNTED_FROM_BYTES:
        values = body.count(b",") + body.count(b"[") + body.count(b"{")
        if values > MAX_JSON_VALUES:
            raise DecodeError(f"request body holds more than {MAX_JSON_VALUES} values")


def _decode_plain(body: bytes, kind: Kind) -> Any:
    node: Node = msgspec.json.decode(body)

    def raw(name: str) -> bytes:
        texts = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        return next(bytes(text) for key, text in texts.items() if fold(key) == fold(name))

    return _take(node, kind, Decoding(raw, exact=False))


def _decode_exactly(body: bytes, kind: Kind) -> Any:
    scanner = Scanner(body)
    node = scanner.read()

    def raw(name: str) -> bytes:
        same = [span for key, span in scanner.spans.items() if fold(key) == fold(name)]
        start, end = max(same)
        return body[start:end]

    return _take(node, kind, Decoding(raw, exact=True))


def _take(node: Node, kind: Kind, state: Decoding) -> Any:
    try:
        value = kind.zero if node is None else kind.take(node, state)
    except StoppedError as stopped:
        raise DecodeError(str(state.located(stopped.fault))) from None
    fault = state.saved or state.later
    if fault is not None:
        raise DecodeError(str(fault))
    return value
