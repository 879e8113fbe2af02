import base64
import json
import random
import time
from typing import Any

import msgspec
import pytest

from corral_api.wire import decode as decode_module
from corral_api.wire.decode import decode
from corral_api.wire.decoding import MAX_VALUE_DEPTH
from corral_api.wire.gojson import DecodeError
from corral_api.wire.requests import (
    ChatRequest,
    CopyRequest,
    CreateRequest,
    DeleteRequest,
    EmbeddingRequest,
    EmbedRequest,
    GenerateRequest,
    Message,
    PullRequest,
    PushRequest,
    ShowRequest,
)
from corral_kernel.durations import FOREVER, SECOND

THINK_WORDS = '"high", "medium", "low", "max", true, or false'

WRONG_GENERATE = [
    (b"[]", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
    (b'"x"', "json: cannot unmarshal string into Go value of type api.GenerateRequest"),
    (b"1", "json: cannot unmarshal number into Go value of type api.GenerateRequest"),
    (b"true", "json: cannot unmarshal bool into Go value of type api.GenerateRequest"),
    (b'{"model":1}', "F number model string"),
    (b'{"MODEL":[]}', "F array model string"),
    (b'{"prompt":{}}', "F object prompt string"),
    (b'{"stream":"yes"}', "F string stream bool"),
    (b'{"raw":0}', "F number raw bool"),
    (b'{"options":[]}', "F array options map[string]interface {}"),
    (b'{"options":{"x":[1e999]}}', "F number 1e999 options float64"),
    (b'{"context":[1.5]}', "F number 1.5 context int"),
    (b'{"context":[1.0]}', "F number 1.0 context int"),
    (b'{"context":["1"]}', "F string context int"),
    (b'{"context":{}}', "F object context []int"),
    (b'{"top_logprobs":1e2}', "F number 1e2 top_logprobs int"),
    (b'{"top_logprobs":9223372036854775808}', "F number 9223372036854775808 top_logprobs int"),
    (b'{"images":"x"}', "F string images []api.ImageData"),
    (b'{"images":[1]}', "F number images api.ImageData"),
    (b'{"images":[[256]]}', "F number 256 images uint8"),
    (b'{"images":["data:image/png;base64,AA=="]}', "illegal base64 data at input byte 4"),
    (b'{"_debug_render_only":1}', "F number _debug_render_only bool"),
    (b'{"think":"x"}', f'invalid think value: "x" (must be {THINK_WORDS})'),
    (b'{"think":"a\\"\\n"}', f'invalid think value: "a\\"\\n" (must be {THINK_WORDS})'),
    (b'{"think":3}', f"think must be a boolean or string ({THINK_WORDS})"),
    (b'{"keep_alive":"10"}', 'time: missing unit in duration "10"'),
    (b'{"keep_alive":""}', 'time: invalid duration ""'),
    (b'{"keep_alive":"5x"}', 'time: unknown unit "x" in duration "5x"'),
    (b'{"keep_alive":true}', "Unsupported type: 'bool'"),
    (b'{"keep_alive":{}}', "Unsupported type: 'map[string]interface {}'"),
    (b'{"keep_alive":[]}', "Unsupported type: '[]interface {}'"),
    (b'{"keep_alive":1e999}', "F number 1e999 keep_alive float64"),
    # The first wrong value is reported after all is read; a type's own decoder stops at once.
    (b'{"raw":1,"model":2}', "F number raw bool"),
    (b'{"raw":1,"keep_alive":true}', "Unsupported type: 'bool'"),
    (b'{"raw":1,"images":["!"]}', "F number raw bool"),
    # Grammar goes before types, and an error of either kind before what follows the value.
    (b'{"raw":1,}', "invalid character '}' looking for beginning of object key string"),
    (b'{"model":nope}', "invalid character 'o' in literal null (expecting 'u')"),
    (b'{"raw":1}}', "F number raw bool"),
]

WRONG_CHAT = [
    (b'{"messages":{}}', "F object messages []api.Message"),
    (b'{"messages":[1]}', "F number messages api.Alias"),
    (b'{"messages":[{"content":[]}]}', "F array messages.content string"),
    (b'{"messages":[{"images":["*"]}]}', "illegal base64 data at input byte 0"),
    (
        b'{"messages":[{"tool_calls":[{"function":{"arguments":"{}"}}]}]}',
        "Value looks like object, but can't find closing '}' symbol",
    ),
    (
        b'{"messages":[{"tool_calls":[{"function":{"index":"0"}}]}]}',
        "F string messages.tool_calls.function.index int",
    ),
    (b'{"messages":[{"tool_calls":{}}]}', "F object messages.tool_calls []api.ToolCall"),
    (b'{"model":1,"messages":[{"role":2}]}', "F number messages.role string"),
    (b'{"tools":{}}', "F object tools api.Tools"),
    (b'{"tools":["x"]}', "F string tools api.Tool"),
    (
        b'{"tools":[{"function":{"name":1}}]}',
        (
            "json: cannot unmarshal number into Go struct field "
            "ToolFunction.tools.function.name of type string"
        ),
    ),
    (
        b'{"tools":[{"function":{"parameters":{"properties":{"a":{"type":1}}}}}]}',
        (
            "json: cannot unmarshal number into Go struct field "
            "ToolFunctionParameters.tools.function.parameters.properties.type of type []string"
        ),
    ),
]

WRONG_OTHERS = [
    (EmbedRequest, b'{"input":3}', "invalid input type"),
    (EmbedRequest, b'{"input":["a",1]}', "invalid input type"),
    (EmbedRequest, b'{"input":[null]}', "invalid input type"),
    (EmbedRequest, b'{"input":3,"dimensions":"1"}', "F string dimensions int"),
    (EmbeddingRequest, b'{"prompt":[]}', "F array prompt string"),
    (CreateRequest, b'{"files":{"a":1}}', "F number files string"),
    (CreateRequest, b'{"files":[]}', "F array files map[string]string"),
    (CreateRequest, b'{"from":1}', "F number from string"),
    (CreateRequest, b'{"messages":[{"content":1}]}', "F number messages.content string"),
    (ShowRequest, b'{"verbose":"x"}', "F string verbose bool"),
    (CopyRequest, b'{"source":1}', "F number source string"),
    (DeleteRequest, b"[]", "json: cannot unmarshal array into Go value of type api.DeleteRequest"),
    (PullRequest, b'{"insecure":1}', "F number insecure bool"),
    (PushRequest, b"[]", "json: cannot unmarshal array into Go value of type api.PushRequest"),
    (PushRequest, b'{"name":1}', "F number name string"),
]

WRONG = [
    *((GenerateRequest, body, text) for body, text in WRONG_GENERATE),
    *((ChatRequest, body, text) for body, text in WRONG_CHAT),
    *WRONG_OTHERS,
]


def spelled_out(struct: type, text: str) -> str:
    """`F kind field type` stands for the complaint about a field of the struct."""
    if not text.startswith("F "):
        return text
    _, *kind, field, go_type = text.replace(" {}", "~").split(" ")
    what = f"json: cannot unmarshal {' '.join(kind)} into Go struct field"
    return f"{what} {struct.__name__}.{field} of type {go_type.replace('~', ' {}')}"


@pytest.mark.parametrize(
    ("struct", "body", "text"), WRONG, ids=[f"{s.__name__}-{b!r}" for s, b, _ in WRONG]
)
def test_a_wrong_value_is_told_in_the_decoders_words(
    struct: type[msgspec.Struct], body: bytes, text: str
) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(body, struct)
    assert str(caught.value) == spelled_out(struct, text)


def test_every_field_of_a_generate_request_arrives() -> None:
    body = b"""{"model":"m","prompt":"p","suffix":"s","system":"y","template":"t","context":[1,2],
        "stream":false,"raw":true,"format":{"type" : "object"},"keep_alive":"5m","images":["YQ=="],
        "options":{"num_ctx":4096,"temperature":0.5,"stop":["a"],"x":null},"think":"low",
        "truncate":true,"shift":false,"_debug_render_only":true,"logprobs":true,"top_logprobs":3}"""
    assert decode(body, GenerateRequest) == GenerateRequest(
        model="m",
        prompt="p",
        suffix="s",
        system="y",
        template="t",
        context=(1, 2),
        stream=False,
        raw=True,
        format=b'{"type" : "object"}',
        keep_alive=300 * SECOND,
        images=(b"a",),
        options={"num_ctx": 4096, "temperature": 0.5, "stop": ["a"], "x": None},
        think="low",
        truncate=True,
        shift=False,
        debug_render_only=True,
        logprobs=True,
        top_logprobs=3,
    )


def test_messages_and_tools_arrive_typed_and_in_order() -> None:
    body = json.dumps(
        {
            "messages": [
                {"role": "USER", "content": "hi", "images": ["YQ=="], "name": "ignored"},
                None,
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"id": "c", "function": {"name": "f", "arguments": {"z": 1, "a": [1.5]}}},
                        {"function": {"name": "g", "index": 1, "arguments": None}},
                    ],
                },
                {"role": "tool", "tool_name": "f", "tool_call_id": "c", "content": "1"},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "parameters": {
                            "type": "object",
                            "required": ["z"],
                            "$defs": {"d": {"type": "string"}},
                            "properties": {
                                "z": {"type": "string", "enum": ["a", 1], "pattern": "dropped"},
                                "a": {"anyOf": [{"type": ["string", "null"]}]},
                            },
                        },
                    },
                }
            ],
        }
    ).encode()
    request = decode(body, ChatRequest)
    user, nothing, assistant, tool = request.messages
    assert user == Message(role="user", content="hi", images=(b"a",))
    assert nothing == Message()
    first, second = (call.function for call in assistant.tool_calls)
    assert assistant.tool_calls[0].id == "c"
    assert list(first.arguments.items()) == [("z", 1), ("a", [1.5])]
    assert (second.index, second.arguments) == (1, {})
    assert (tool.tool_name, tool.tool_call_id) == ("f", "c")
    parameters = request.tools[0].function.parameters
    assert (parameters.type, parameters.required) == ("object", ("z",))
    assert parameters.defs == {"d": {"type": "string"}}
    assert parameters.properties is not None
    assert list(parameters.properties) == ["z", "a"]
    assert parameters.properties["z"].type == ("string",)
    assert parameters.properties["z"].enum == ("a", 1)
    assert parameters.properties["a"].any_of[0].type == ("string", "null")


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b"null", ""),
        (b"{}", ""),
        (b'{"model":null}', ""),
        (b'{"MODEL":"m"}', "m"),
        (b'{"MoDeL":"m","unknown":[{"deep":1}]}', "m"),
        (b'{"model":"a","model":"b"}', "b"),
        (b'{"model":"a","MODEL":"b"}', "b"),
        (b'{"MODEL":"a","model":"b","Model":"c"}', "c"),
        (b'{"model":"a","model":null}', ""),
        (b'{"model":"m"}{"model":', "m"),
        (b'{"model":"\\u006d"} trailing', "m"),
        (b'\r\n{"model":"m"}', "m"),
    ],
)
def test_names_match_in_any_case_and_the_last_counts(body: bytes, model: str) -> None:
    assert decode(body, GenerateRequest) == GenerateRequest(model=model)


def test_names_match_by_unicode_folding_too() -> None:
    body = '{"\u212aeep_alive":1,"me\u017f\u017fages":[{"role":"X"}]}'.encode()
    assert decode(body, ChatRequest) == ChatRequest(
        keep_alive=SECOND, messages=(Message(role="x"),)
    )


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        ("null", None),
        ("0", 0),
        ("-0", 0),
        ("5", 5 * SECOND),
        ("0.25", SECOND // 4),
        ("-1", FOREVER),
        ("-0.5", FOREVER),
        ("1e300", FOREVER),
        ('"0"', 0),
        ('"1m30s"', 90 * SECOND),
        ('"-1s"', FOREVER),
        ('"1.5h"', 5400 * SECOND),
    ],
)
def test_keep_alive_becomes_nanoseconds(value: str, nanoseconds: int | None) -> None:
    for tail in ("", " x"):  # both readers
        body = f'{{"keep_alive":{value}}}{tail}'.encode()
        assert decode(body, EmbedRequest).keep_alive == nanoseconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"json"', b'"json"'),
        ('{ "a" : 1.0 }', b'{ "a" : 1.0 }'),
        ('[ "x" ]', b'[ "x" ]'),
        ("null", None),
        ('""', None),
    ],
)
def test_format_stays_the_text_it_was(value: str, text: bytes | None) -> None:
    for body in (f'{{"Format": {value} }}', f'{{"format":1,"Format": {value} }}x'):
        assert decode(body.encode(), GenerateRequest).format == text


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("7", 7),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", float(2**63)),
        ("1" + "0" * 300, 1e300),
        ("1.0", 1.0),
        ("1e2", 100.0),
        ('[true,null,{"a":["b"]}]', [True, None, {"a": ["b"]}]),
    ],
)
def test_free_values_keep_integers_and_structure(value: str, result: object) -> None:
    for tail in ("", " x"):  # both readers
        options = decode(f'{{"options":{{"o":{value}}}}}{tail}'.encode(), ShowRequest).options
        assert options == {"o": result}
        assert type(options["o"]) is type(result)


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        (b'{"input":"a"}', ("a",)),
        (b'{"input":""}', ()),
        (b'{"input":[]}', ()),
        (b'{"input":null}', ()),
        (b"{}", ()),
        (b'{"input":["","b"]}', ("", "b")),
    ],
)
def test_the_input_to_embed_is_texts(body: bytes, inputs: tuple[str, ...]) -> None:
    assert decode(body, EmbedRequest).input == inputs


def test_the_older_names_of_fields_still_count() -> None:
    assert decode(b'{"name":"m"}', ShowRequest).target == "m"
    assert decode(b'{"name":"m","model":"n"}', DeleteRequest).target == "n"
    assert decode(b'{"name":"m","model":""}', PushRequest).target == "m"
    create = decode(b'{"quantization":"q8_0","from":"b","license":["x"]}', CreateRequest)
    assert (create.quantize_to, create.source, create.license) == ("q8_0", "b", ["x"])


def test_a_list_of_bytes_is_an_image_too() -> None:
    assert decode(b'{"images":[[97,98],null]}', GenerateRequest).images == (b"ab", b"")


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_what_is_unknown_may_nest_deeply_and_what_is_kept_may_not() -> None:
    body = b'{"unknown":%b,"model":"m","format":%b}' % (nested(9_000), nested(9_000))
    request = decode(body, GenerateRequest)
    assert (request.model, request.format) == ("m", nested(9_000))
    options = b'{"options":{"o":%b}}'
    decode(options % nested(MAX_VALUE_DEPTH - 1), GenerateRequest)
    for levels in (MAX_VALUE_DEPTH, 9_000):
        with pytest.raises(DecodeError, match="nested deeper than 100 levels"):
            decode(options % nested(levels), GenerateRequest)


def test_a_schema_inside_a_schema_inside_a_schema_ends_somewhere() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(120):
        schema = {"properties": {"p": schema}}
    tool = {"function": {"parameters": schema}}
    with pytest.raises(DecodeError, match="nested deeper than 100 levels"):
        decode(json.dumps({"tools": [tool]}).encode(), ChatRequest)


def test_a_body_of_too_many_values_is_refused_before_it_is_read() -> None:
    body = b"[" + b"0," * decode_module.MAX_JSON_VALUES + b"0]"
    with pytest.raises(DecodeError, match=r"request body holds more than \d+ values"):
        decode(body, GenerateRequest)


def test_a_body_with_a_large_image_is_decoded_quickly() -> None:
    image = random.Random(1).randbytes(20 * 1024 * 1024)
    body = b'{"model":"m","images":["%b"]}' % base64.b64encode(image)
    start = time.thread_time()
    request = decode(body, GenerateRequest)
    assert time.thread_time() - start < 2.0  # it takes tens of milliseconds
    assert request.images == (image,)


def test_both_readers_give_the_same_request() -> None:
    draw = random.Random(3)
    pieces = ['"model":"m"', '"Prompt":"é\\n"', '"context":[1,-2]', '"options":{"a":[1,2.5,{}]}']
    pieces += ['"think":true', '"format":{"a":1}', '"keep_alive":"1s"', '"images":["YWI="]']
    pieces += ['"x":{"model":1}', '"raw":null', '"stream":false']
    for _ in range(200):
        body = "{" + ",".join(draw.sample(pieces, k=draw.randint(0, 6))) + "}"
        fast = decode(body.encode(), GenerateRequest)
        assert decode(body.encode() + b"!", GenerateRequest) == fast
