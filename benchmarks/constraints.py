"""Time of compiling schemas and of their masks, on a model's own vocabulary.

    python -m benchmarks.constraints --model model.gguf

The schemas are those of the tests' corpus. Compiling is measured as a worker does it, without the
trial of a grammar in a process of its own, which is reported apart: it runs beside everything else,
once for each new grammar. A schema is compiled once, as in life, and with an empty lexer; its
answers are drawn from random logits, with a mask for each token, forced ones left out.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import llama_cpp.llama_cpp as native
import numpy as np
from llguidance import LLTokenizer

from corral_guidance.compiler import LIMITS, Compiled, compiled
from corral_guidance.kinds import SchemaType
from corral_guidance.matcher import GuidedConstraint
from corral_guidance.trying import Trials
from corral_guidance.vocabulary import guided_tokenizer
from corral_kernel.contracts import Tokenizer
from corral_kernel.errors import EngineError, InvalidFormatError
from corral_llamacpp.tokenizer import LlamaTokenizer

CORPUS = Path(__file__).parents[1] / "tests" / "plugins" / "guidance" / "corpus"
MASK_BAR_MS = 1.0
COMPILE_BAR_MS = 10.0
ANSWERS = 3
STEPS = 100
PERCENTILES = (50, 95, 99, 100)
CLOSING_SHARE = 0.2


@dataclass
class Times:
    """Milliseconds of everything that was done.

    Attributes:
        check: Of looking at a schema, in the server.
        compile: Of compiling one, its first mask included.
        trial: Of trying one in a process.
        mask: Of one token's mask.
        accept: Of taking one token.
    """

    check: list[float] = field(default_factory=list)
    compile: list[float] = field(default_factory=list)
    trial: list[float] = field(default_factory=list)
    mask: list[float] = field(default_factory=list)
    accept: list[float] = field(default_factory=list)


@contextmanager
def clock(times: list[float]) -> Iterator[None]:
    """Add the time of what stands within."""
    began = time.perf_counter()
    yield
    times.append((time.perf_counter() - began) * 1000)


@contextmanager
def vocabulary(path: Path) -> Iterator[Tokenizer]:
    """Load a model's vocabulary alone."""
    silent = native.llama_log_callback(lambda _level, _text, _data: None)
    native.llama_log_set(silent, None)
    params = native.llama_model_default_params()
    params.vocab_only = True
    model = native.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise SystemExit(f"{path} is no model that llama.cpp can load")
    handle: Any = SimpleNamespace(vocab=native.llama_model_get_vocab(model), model=model)
    try:
        yield LlamaTokenizer(handle)
    finally:
        native.llama_model_free(model)


def corpus() -> dict[str, Any]:
    """Give the schemas by name."""
    files = (CORPUS / "written.json", CORPUS / "generated.json")
    return {name: spec for file in files for name, spec in json.loads(file.read_text()).items()}


def measured(schema: Any, tokenizer: Tokenizer, guided: LLTokenizer, times: Times) -> None:
    """Check, try and compile a schema, and draw answers.

    Raises:
        InvalidFormatError: If it is refused.
    """
    kind = SchemaType()
    with clock(times.check):
        kind.check(schema)
    began = time.perf_counter()
    text, trusted = kind.write(schema)
    written_ms = (time.perf_counter() - began) * 1000
    if not trusted:
        with clock(times.trial):
            wrong = Trials(LIMITS).wrong(text)
        if wrong:
            raise InvalidFormatError(wrong)
    with clock(times.compile):
        made = compiled(text, guided)
    times.compile[-1] += written_ms
    if not isinstance(made, Compiled):
        raise InvalidFormatError(made.why)
    for seed in range(ANSWERS):
        constraint = GuidedConstraint(made.matcher.deep_copy(), tokenizer.end_ids, made)
        draw_answer(constraint, tokenizer, times, np.random.default_rng(seed))


def draw_answer(
    constraint: GuidedConstraint, tokenizer: Tokenizer, times: Times, draw: np.random.Generator
) -> None:
    """Draw tokens that the masks allow; closing ones are likelier, else texts never end."""
    width = len(tokenizer.pieces)
    closing = np.array([piece[-1:] in (b'"', b"}", b"]") for piece in tokenizer.pieces])
    out = np.zeros((width + 31) // 32, np.uint32)
    for _ in range(STEPS):
        for token_id in constraint.forced():
            constraint.accept(token_id)
        if constraint.finished():
            return
        with clock(times.mask):
            constraint.mask(out)
        allowed = np.unpackbits(out.view(np.uint8), bitorder="little")[:width].nonzero()[0]
        some = allowed[closing[allowed]]
        token_id = int(
            draw.choice(some if len(some) and draw.random() < CLOSING_SHARE else allowed)
        )
        with clock(times.accept):
            constraint.accept(token_id)
        if token_id in tokenizer.end_ids:
            return


def report(times: Times, refused: int, count: int, as_json: str | None) -> None:
    """Print a table and whether the bars are met."""
    print(f"{count} schemas, {refused} refused; milliseconds")
    print(f"{'':10}{'count':>8}" + "".join(f"{'p' + str(p):>10}" for p in PERCENTILES))
    found: dict[str, dict[str, float]] = {}
    for name, values in vars(times).items():
        if values:
            found[name] = {f"p{p}": float(np.percentile(values, p)) for p in PERCENTILES}
            row = "".join(f"{value:10.3f}" for value in found[name].values())
            print(f"{name:10}{len(values):8}{row}")
    bars = {
        f"p99 of a mask at most {MASK_BAR_MS:g} ms": found["mask"]["p99"] <= MASK_BAR_MS,
        f"p95 of compiling at most {COMPILE_BAR_MS:g} ms": found["compile"]["p95"]
        <= COMPILE_BAR_MS,
    }
    for bar, met in bars.items():
        print(f"{bar}: {'met' if met else 'NOT met'}")
    if as_json:
        result = {"schemas": count, "refused": refused, "milliseconds": found, "bars": bars}
        Path(as_json).write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    """Measure all schemas of the corpus."""
    parser = argparse.ArgumentParser(description="Time of compiling schemas and of masks.")
    parser.add_argument("--model", type=Path, required=True, metavar="MODEL.gguf")
    parser.add_argument("--out", metavar="FILE.json", help="write the numbers there as well")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th schema alone")
    given = parser.parse_args()
    times, refused = Times(), 0
    schemas = dict([*corpus().items()][:: given.every])
    with vocabulary(given.model) as tokenizer:
        began = time.perf_counter()
        guided = guided_tokenizer(tokenizer, len(tokenizer.pieces))
        took_ms = (time.perf_counter() - began) * 1000
        print(f"{given.model.name}: {len(tokenizer.pieces):,} tokens, prepared in {took_ms:.0f} ms")
        for schema in schemas.values():
            try:
                measured(schema, tokenizer, guided, times)
            except (InvalidFormatError, EngineError):
                refused += 1
    report(times, refused, len(schemas), given.out)


if __name__ == "__main__":
    main()
