import json
import time
from collections.abc import Iterator

import msgspec
import pytest

from corral_api.wire import responses as r
from corral_api.wire.encode import encode, encode_line
from corral_api.wire.numbers import go_json
from corral_api.wire.times import local_text, now_text, utc_text

CREATED = "2026-08-21T10:00:00.2Z"
DETAILS = r.ModelDetails(
    parent_model="",
    format="gguf",
    family="llama",
    families=("llama",),
    parameter_size="1.2B",
    quantization_level="Q8_0",
)
DETAILS_TEXT = (
    '{"parent_model":"","format":"gguf","family":"llama","families":["llama"],'
    '"parameter_size":"1.2B","quantization_level":"Q8_0"}'
)
FAMILYLESS_TEXT = DETAILS_TEXT.replace('["llama"]', "null")
DIGEST = "ab" * 32

GOLDEN = {
    "generate chunk": (
        r.GenerateResponse(model="m", created_at=CREATED, response="Hi", done=False),
        f'{{"model":"m","created_at":"{CREATED}","response":"Hi","done":false}}',
    ),
    "generate end": (
        r.GenerateResponse(
            model="m",
            created_at=CREATED,
            response="",
            thinking="t",
            done=True,
            done_reason="stop",
            context=(1, 2, 3),
            total_duration=210000000,
            load_duration=1200000,
            prompt_eval_count=5,
            prompt_eval_duration=9000000,
            eval_count=2,
            eval_duration=80000000,
        ),
        (
            f'{{"model":"m","created_at":"{CREATED}","response":"","thinking":"t","done":true,'
            '"done_reason":"stop","context":[1,2,3],"total_duration":210000000,'
            '"load_duration":1200000,"prompt_eval_count":5,"prompt_eval_duration":9000000,'
            '"eval_count":2,"eval_duration":80000000}'
        ),
    ),
    "generate, rendered only": (
        r.GenerateResponse(
            model="m",
            created_at=CREATED,
            response="",
            done=False,
            debug_info=r.DebugInfo(rendered_template="<s>", image_count=2),
        ),
        (
            f'{{"model":"m","created_at":"{CREATED}","response":"","done":false,'
            '"_debug_info":{"rendered_template":"\\u003cs\\u003e","image_count":2}}'
        ),
    ),
    "chat chunk": (
        r.ChatResponse(
            model="m",
            created_at=CREATED,
            message=r.ResponseMessage(role="assistant", content=""),
            done=False,
        ),
        (
            f'{{"model":"m","created_at":"{CREATED}",'
            '"message":{"role":"assistant","content":""},"done":false}'
        ),
    ),
    "chat with a tool call": (
        r.ChatResponse(
            model="m",
            created_at=CREATED,
            message=r.ResponseMessage(
                role="assistant",
                content="",
                tool_calls=(
                    r.ToolCall(
                        id="call_k3v9x0ab",
                        function=r.ToolCallFunction(
                            index=0, name="f", arguments=go_json({"city": "Oslo", "x": 1.0})
                        ),
                    ),
                ),
            ),
            done=True,
            done_reason="stop",
            eval_count=1,
        ),
        (
            f'{{"model":"m","created_at":"{CREATED}","message":{{"role":"assistant","content":"",'
            '"tool_calls":[{"id":"call_k3v9x0ab","function":{"index":0,"name":"f",'
            '"arguments":{"city":"Oslo","x":1}}}]},"done":true,"done_reason":"stop","eval_count":1}'
        ),
    ),
    "logprobs": (
        r.Logprob(
            token="a",
            logprob=r.logprob_raw(-1e-7),
            bytes=(97,),
            top_logprobs=(r.TokenLogprob(token="b", logprob=r.logprob_raw(-2.0)),),
        ),
        '{"token":"a","logprob":-1e-7,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-2}]}',
    ),
    "embed": (
        r.EmbedResponse(model="m", embeddings=msgspec.Raw(b"[[0.1]]"), prompt_eval_count=8),
        '{"model":"m","embeddings":[[0.1]],"prompt_eval_count":8}',
    ),
    "embed nothing": (
        r.EmbedResponse(model="m", embeddings=msgspec.Raw(b"[]")),
        '{"model":"m","embeddings":[]}',
    ),
    "embeddings": (r.EmbeddingResponse(embedding=msgspec.Raw(b"[]")), '{"embedding":[]}'),
    "tags": (
        r.ListResponse(
            models=(
                r.ListedModel(
                    name="m:latest",
                    model="m:latest",
                    modified_at="2026-08-21T12:00:00.12+02:00",
                    size=123,
                    digest=DIGEST,
                    details=msgspec.structs.replace(
                        DETAILS, context_length=131072, embedding_length=2048
                    ),
                    capabilities=("completion", "tools"),
                ),
            )
        ),
        (
            '{"models":[{"name":"m:latest","model":"m:latest",'
            f'"modified_at":"2026-08-21T12:00:00.12+02:00","size":123,"digest":"{DIGEST}",'
            f'"details":{DETAILS_TEXT[:-1]},"context_length":131072,"embedding_length":2048}},'
            '"capabilities":["completion","tools"]}]}'
        ),
    ),
    "no tags": (r.ListResponse(models=()), '{"models":[]}'),
    "ps": (
        r.ProcessResponse(
            models=(
                r.RunningModel(
                    name="m:latest",
                    model="m:latest",
                    size=1,
                    digest=DIGEST,
                    details=DETAILS,
                    expires_at=CREATED,
                    size_vram=0,
                    context_length=4096,
                ),
            )
        ),
        (
            f'{{"models":[{{"name":"m:latest","model":"m:latest","size":1,"digest":"{DIGEST}",'
            f'"details":{DETAILS_TEXT},"expires_at":"{CREATED}","size_vram":0,'
            '"context_length":4096}]}'
        ),
    ),
    "show at least": (
        r.ShowResponse(
            details=msgspec.structs.replace(DETAILS, families=None),
            model_info={},
            modified_at=CREATED,
        ),
        (f'{{"details":{FAMILYLESS_TEXT},"model_info":{{}},"modified_at":"{CREATED}"}}'),
    ),
    "show at most": (
        r.ShowResponse(
            license="L",
            modelfile="F",
            parameters="P",
            template="T",
            system="S",
            details=DETAILS,
            messages=(r.ResponseMessage(role="user", content=""),),
            remote_model="rm",
            remote_host="rh",
            model_info={"a": None, "b": []},
            projector_info={"c": 1},
            tensors=(r.Tensor(name="t", type="F32", shape=(2, 3)),),
            capabilities=("completion",),
            modified_at=CREATED,
            requires="0.1.0",
        ),
        (
            '{"license":"L","modelfile":"F","parameters":"P","template":"T","system":"S",'
            f'"details":{DETAILS_TEXT},"messages":[{{"role":"user","content":""}}],'
            '"remote_model":"rm","remote_host":"rh","model_info":{"a":null,"b":[]},'
            '"projector_info":{"c":1},"tensors":[{"name":"t","type":"F32","shape":[2,3]}],'
            f'"capabilities":["completion"],"modified_at":"{CREATED}","requires":"0.1.0"}}'
        ),
    ),
    "progress": (r.ProgressResponse(status="success"), '{"status":"success"}'),
    "progress of a layer": (
        r.ProgressResponse(status="pulling", digest="sha256:ab", total=3, completed=0),
        '{"status":"pulling","digest":"sha256:ab","total":3}',
    ),
    "version": (
        r.VersionResponse(version="0.9.0", corral_version="0.1.0"),
        '{"version":"0.9.0","corral_version":"0.1.0"}',
    ),
    "status": (
        r.StatusResponse(cloud=r.CloudStatus(disabled=True, source="env")),
        '{"cloud":{"disabled":true,"source":"env"}}',
    ),
    "recommendations": (r.RecommendationsResponse(recommendations=()), '{"recommendations":[]}'),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_an_answer_has_the_contracts_fields_in_order(name: str) -> None:
    answer, text = GOLDEN[name]
    assert encode(answer).decode() == text


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("<a href='x'>&</a>", rb'"\u003ca href=' + b"'x'" + rb'\u003e\u0026\u003c/a\u003e"'),
        ("\u2028|\u2029|\u2027", b'"\\u2028|\\u2029|\xe2\x80\xa7"'),
        ('"\\\b\f\n\r\t\x00\x1f\x7f', b'"\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\x7f"'),
        ("é😀", b'"\xc3\xa9\xf0\x9f\x98\x80"'),
        ("a\ud800b\udfff", b'"a\xef\xbf\xbdb\xef\xbf\xbd"'),
    ],
)
def test_text_is_escaped_as_upstream_escapes_it(text: str, encoded: bytes) -> None:
    assert encode(text) == encoded


def test_a_lone_surrogate_deep_inside_changes_nothing_else() -> None:
    def answer(text: str) -> r.ChatResponse:
        call = r.ToolCallFunction(index=0, name=text, arguments={text: [text]})
        message = r.ResponseMessage(
            role="assistant", content=text, tool_calls=(r.ToolCall(function=call),)
        )
        return r.ChatResponse(model="m", created_at=CREATED, message=message, done=False)

    assert encode(answer("x\udc80")) == encode(answer("x\ufffd"))


def test_a_line_ends_with_one_newline() -> None:
    line = encode_line(r.ProgressResponse(status="a\nb"))
    assert line == b'{"status":"a\\nb"}\n'


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_787_306_400_000_000_000, "2026-08-21T10:00:00Z"),
        (1_787_306_400_200_000_000, "2026-08-21T10:00:00.2Z"),
        (1_787_306_400_123_456_789, "2026-08-21T10:00:00.123456789Z"),
        (1_787_306_400_000_000_010, "2026-08-21T10:00:00.00000001Z"),
        (11_000_000_000_000_000_000, "2318-07-30T19:33:20Z"),
    ],
)
def test_a_time_in_utc_has_no_trailing_zeros(unix_ns: int, text: str) -> None:
    assert utc_text(unix_ns) == text


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "2026-08-21T10:00:00.12Z"),
        ("XXX-2", "2026-08-21T12:00:00.12+02:00"),
        ("XXX+3:30", "2026-08-21T06:30:00.12-03:30"),
    ],
    indirect=["zone"],
)
@pytest.mark.usefixtures("zone")
def test_a_local_time_carries_its_offset(text: str) -> None:
    assert local_text(1_787_306_400_120_000_000) == text


def test_now_is_now() -> None:
    before, text, after = utc_text(time.time_ns()), now_text(), utc_text(time.time_ns())
    assert before[:19] <= text[:19] <= after[:19]
    assert json.loads(encode(text)) == text
