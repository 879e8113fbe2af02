"""`corral show` where several backends bid for a model."""

from typing import Any

BACKEND: dict[str, Any] = {
    "name": "low",
    "why": "a model of its own",
    "confidence": 0.2,
    "chosen_by": "order",
    "others": [{"name": "high", "why": "any GGUF", "confidence": 0.9}],
    "absent": [{"name": "onnx", "why": "an ONNX folder", "needs": "ort", "install": "pip …"}],
}


def section(out: str) -> list[str]:
    return [
        line.strip() for line in out.partition("  Backend\n")[2].partition("\n\n")[0].split("\n")
    ]


def test_show_lists_the_chosen_one_the_others_and_what_is_missing(
    scripted: Any, corral: Any, answer: Any
) -> None:
    scripted.on("POST", "/api/show", answer({"backend": BACKEND}))
    assert section(corral("show", "m").out) == [
        "low     a model of its own    bids 0.2, chosen by CORRAL_BACKEND_ORDER",
        "high    any GGUF              bids 0.9",
        "onnx    an ONNX folder        needs ort: pip …",
    ]


def test_show_tells_who_chose_and_whom_one_could_choose_instead_of_what_is_not_there(
    scripted: Any, corral: Any, answer: Any
) -> None:
    for by, words in (
        ("bid", "bids 0.2, chosen as the highest"),
        ("parameter", "bids 0.2, chosen by PARAMETER backend"),
        ("something newer", "bids 0.2"),
    ):
        shown = {**BACKEND, "chosen_by": by, "others": [], "absent": []}
        scripted.on("POST", "/api/show", answer({"backend": shown}))
        assert section(corral("show", "m").out) == [f"low    a model of its own    {words}"]
    lost = {"error": "backend 'x' is not installed", "others": BACKEND["others"]}
    scripted.on("POST", "/api/show", answer({"backend": lost}))
    assert section(corral("show", "m").out) == [
        "none    backend 'x' is not installed",
        "high    any GGUF                        bids 0.9",
    ]
