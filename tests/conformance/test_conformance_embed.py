"""`/api/embed` and `/api/embeddings` with a chat model, which has no vectors to give."""

from typing import Any

import pytest


@pytest.mark.parametrize("given", [{}, {"input": ""}, {"input": []}, {"input": None}], ids=str)
def test_without_input_the_model_is_loaded(api: Any, model: str, given: dict[str, Any]) -> None:
    api.post("/api/embed", {"model": model})  # who has it loaded with other options is warned
    answer = api.post("/api/embed", {"model": model, **given})
    assert (answer.status_code, answer.text) == (200, f'{{"model":"{model}","embeddings":[]}}')


@pytest.mark.parametrize("given", [{}, {"prompt": ""}], ids=str)
def test_without_a_prompt_the_model_is_loaded(api: Any, model: str, given: dict[str, Any]) -> None:
    answer = api.post("/api/embeddings", {"model": model, **given})
    assert (answer.status_code, answer.text) == (200, '{"embedding":[]}')


@pytest.mark.parametrize(
    ("path", "given", "status"),
    [("embed", {"input": "x"}, 501), ("embeddings", {"prompt": "x"}, 500)],
)
def test_a_model_without_vectors_says_so(
    api: Any, model: str, path: str, given: dict[str, Any], status: int
) -> None:
    answer = api.post(f"/api/{path}", {"model": model, **given})
    api.check_error(answer, status, "<any>embedding<any>")


@pytest.mark.parametrize("given", [1, True, {"a": 1}, [1], [["x"]], ["x", None]], ids=str)
def test_input_is_texts(api: Any, model: str, given: Any) -> None:
    answer = api.post("/api/embed", {"model": model, "input": given})
    api.check_error(answer, 400, "invalid input type")
