"""`corral compare`: what it asks for, what it prints, what it draws."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

SVG = "{http://www.w3.org/2000/svg}"
SIDE = {
    "backend": "llamacpp",
    "load_duration": 1_234_567_890,
    "memory": 120_000_000,
    "context_length": 4096,
    "tokens": 6,
}
RESULT: dict[str, Any] = {
    "status": "success",
    "a": {**SIDE, "model": "big:latest", "quantization": "F16", "tokens_per_second": 81.25},
    "b": {**SIDE, "model": "small:q8", "quantization": "Q8_0", "tokens_per_second": None},
    "prompts": [
        {
            "prompt": "The capital of <France> is",
            "a": " Paris.",
            "b": " Paris!",
            "tokens": 3,
            "first_difference": {"token": 1, "character": 6, "a": ".", "b": "!"},
            "same_prompt": True,
            "kl": [0.0, 0.25, 0.5],
            "kl_mean": 0.25,
            "kl_max": 0.5,
        },
        {
            "prompt": "line one\nline two, which goes on for quite a while",
            "a": "x",
            "b": "x",
            "tokens": 3,
            "first_difference": None,
            "same_prompt": True,
            "kl": [0.001, 0.0, 0.0],
            "kl_mean": 0.000333,
            "kl_max": 0.001,
        },
    ],
    "equal": 1,
    "kl_mean": 0.125,
    "kl_max": 0.5,
    "agreement": 0.8333,
    "kl_reason": "",
    "warnings": ["small:q8: mind the gap"],
}
STEPS = [
    {"status": "loading", "side": "a", "model": "big:latest", "completed": 0, "total": 0},
    {"status": "answering", "side": "a", "model": "big:latest", "completed": 1, "total": 2},
]
WITHOUT = {
    **RESULT,
    "prompts": [
        {
            "prompt": "p",
            "a": "Paris",
            "b": "",
            "tokens": 0,
            "first_difference": {"token": None, "character": 0, "a": "Paris", "b": ""},
            "kl": [],
            "kl_mean": None,
            "kl_max": None,
        }
    ],
    "equal": 0,
    "kl_mean": None,
    "kl_max": None,
    "agreement": None,
    "kl_reason": "the models have different vocabularies",
}


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def cells(text: str) -> list[list[str]]:
    return [re.split(r"\s{4,}", line.strip()) for line in text.splitlines()]


def test_compare_prints_both_models_and_every_prompt(
    scripted: Any, corral: Any, answer: Any
) -> None:
    scripted.on("POST", "/api/compare", answer(lines=[*STEPS, RESULT]))

    result = corral("compare", "big", "small:q8")

    assert result.status == 0
    assert cells(result.out) == [
        ["A", "B"],
        ["model", "big:latest", "small:q8"],
        ["backend", "llamacpp", "llamacpp"],
        ["quantization", "F16", "Q8_0"],
        ["memory", "120 MB", "120 MB"],
        ["load", "1.234s", "1.234s"],
        ["speed", "81.2 tokens/s", "-"],
        [""],
        ["PROMPT", "TOKENS", "FIRST DIFFERENCE", "KL MEAN", "KL MAX"],
        ["The capital of <France> is", "3", 'token 1: "." / "!"', "0.25", "0.5"],
        ["line one line two, which goes on for qu…", "3", "none", "0.000333", "0.001"],
        ["all", "6", "1 of 2 differ, 83.3% of tokens agree", "0.125", "0.5"],
    ]
    assert lines(result.err) == [
        "loading A: big:latest",
        "answering A: big:latest 2/2",
        "warning: small:q8: mind the gap",
    ]
    assert scripted.bodies("/api/compare") == [{"model_a": "big", "model_b": "small:q8"}]


def test_where_there_is_no_divergence_the_reason_is_told(
    scripted: Any, corral: Any, answer: Any
) -> None:
    scripted.on("POST", "/api/compare", answer(lines=[WITHOUT]))
    assert cells(corral("compare", "a", "b").out)[-4:] == [
        ["p", "-", 'character 0: "Paris" / end', "-", "-"],
        ["all", "-", "1 of 1 differ", "-", "-"],
        [""],
        ["no divergence: the models have different vocabularies"],
    ]


def test_prompts_that_come_to_other_tokens_are_told_of(
    scripted: Any, corral: Any, answer: Any
) -> None:
    prompts = [{**RESULT["prompts"][0], "same_prompt": False}, RESULT["prompts"][1]]
    scripted.on("POST", "/api/compare", answer(lines=[{**RESULT, "prompts": prompts}]))
    told = "prompts that B splits into other tokens than A: 1"
    assert lines(corral("compare", "a", "b").out)[-1] == told


def test_flags_are_sent(scripted: Any, corral: Any, answer: Any, tmp_path: Path) -> None:
    scripted.on("POST", "/api/compare", answer(lines=[RESULT]))
    prompts = tmp_path / "prompts.txt"
    prompts.write_bytes("\ufeffEins, zwei\r\n\n  \nzwölf ".encode())
    flags = ["--prompts", str(prompts), "--max-tokens=9", "--num-ctx", "512", "--seed", "0"]
    assert corral("compare", "a", "b", *flags, "--backend-b", "onnx").status == 0
    assert scripted.bodies("/api/compare") == [
        {
            "model_a": "a",
            "model_b": "b",
            "prompts": ["Eins, zwei", "zwölf "],
            "max_tokens": 9,
            "options": {"num_ctx": 512, "seed": 0},
            "options_b": {"backend": "onnx"},
        }
    ]


def test_json_prints_what_the_server_answers(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("POST", "/api/compare", answer({**RESULT, "newer": 1}))
    result = corral("compare", "a", "b", "--json", "--backend-a", "x")
    assert json.loads(result.out) == {**RESULT, "newer": 1}
    body = {"model_a": "a", "model_b": "b", "options_a": {"backend": "x"}, "stream": False}
    assert scripted.bodies("/api/compare") == [body]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file or directory"),
        (b"\n  \n", "there is no prompt in it"),
        (b"\xff", "it is no UTF-8 text"),
        (b"x" * (1 << 20) + b"yy", "it is larger than 1048576 bytes"),
    ],
    ids=["missing", "empty", "no text", "large"],
)
def test_prompts_that_cannot_be_read_are_told(
    scripted: Any, corral: Any, tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "prompts"
    if content is not None:
        path.write_bytes(content)
    result = corral("compare", "a", "b", "--prompts", str(path))
    assert result.status == 1
    assert words in result.err
    assert scripted.bodies("/api/compare") == []


def test_an_error_in_the_middle_and_a_missing_result_fail(
    scripted: Any, corral: Any, answer: Any
) -> None:
    scripted.on("POST", "/api/compare", answer(lines=[*STEPS, {"error": "it died"}]))
    result = corral("compare", "a", "b")
    assert (result.status, lines(result.err)[-1]) == (1, "Error: it died")
    scripted.on("POST", "/api/compare", answer(lines=STEPS))
    result = corral("compare", "a", "b")
    assert result.status == 1
    assert "without a result" in result.err


# -------------------------------------------------------------------------------------- the plot


def drawn(path: Path) -> ET.Element:
    return ET.fromstring(path.read_text("utf-8"))


def test_the_plot_has_a_line_for_each_prompt_and_a_ring_where_answers_part(
    scripted: Any, corral: Any, answer: Any, tmp_path: Path
) -> None:
    scripted.on("POST", "/api/compare", answer(lines=[RESULT]))
    path = tmp_path / "plot.svg"
    assert corral("compare", "a", "b", "--plot", str(path)).status == 0
    picture = drawn(path)
    assert picture.tag == f"{SVG}svg"
    curves = [line.get("points", "").split() for line in picture.iter(f"{SVG}polyline")]
    assert [len(points) for points in curves] == [3, 3]
    heights = [float(point.split(",")[1]) for point in curves[0]]
    assert heights[0] > heights[1] > heights[2]  # upwards is less
    (ring,) = picture.iter(f"{SVG}circle")
    assert f"{ring.get('cx')},{ring.get('cy')}" == curves[0][1]
    words = [text.text for text in picture.iter(f"{SVG}text")]
    assert "The capital of <France> is" in words
    assert "big:latest, llamacpp, F16  (A)  and  small:q8, llamacpp, Q8_0  (B)" in words


def test_an_answer_of_one_token_is_drawn_too(
    scripted: Any, corral: Any, answer: Any, tmp_path: Path
) -> None:
    prompts = [{**RESULT["prompts"][0], "tokens": 1, "kl": [0.5]}]
    scripted.on("POST", "/api/compare", answer(lines=[{**RESULT, "prompts": prompts}]))
    path = tmp_path / "plot.svg"
    assert corral("compare", "a", "b", "--plot", str(path)).status == 0
    (curve,) = drawn(path).iter(f"{SVG}polyline")
    assert len(curve.get("points", "").split()) == 2


def test_the_plot_without_a_divergence_says_why(
    scripted: Any, corral: Any, answer: Any, tmp_path: Path
) -> None:
    scripted.on("POST", "/api/compare", answer(WITHOUT))
    path = tmp_path / "plot.svg"
    assert corral("compare", "a", "b", "--json", "--plot", str(path)).status == 0
    words = [text.text for text in drawn(path).iter(f"{SVG}text")]
    assert "the models have different vocabularies" in words


def test_a_plot_that_cannot_be_written_is_told_after_the_table(
    scripted: Any, corral: Any, answer: Any, tmp_path: Path
) -> None:
    scripted.on("POST", "/api/compare", answer(lines=[RESULT]))
    result = corral("compare", "a", "b", "--plot", str(tmp_path / "no" / "plot.svg"))
    assert result.status == 1
    assert "FIRST DIFFERENCE" in result.out
    assert "no such file or directory" in result.err
