"""What this backend says of a folder from the names and the small JSON files in it alone."""

from collections.abc import Sequence

from corral_kernel.contracts import Claim, MemoryNeed
from corral_kernel.foldernames import GENAI_CONFIG, TOKENIZER, graph_name
from corral_kernel.models import Model, ModelFile
from corral_onnx.config import WEIGHTS, encoder_limit, genai_config, scores_pairs

NAME = "onnx"

ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1"}
"""ONNX Runtime's wheels write a device id below the user's cache folder and call home otherwise."""

_CONFIDENCE = 0.9
_LIBRARY_BYTES = 96 << 20  # the libraries, the tokenizer, what a step computes; small models
_PACKED = 1.5  # weights are repacked for the processor while they are loaded


def claim(model: Model) -> Claim | None:
    """Bid for a folder of ONNX Runtime GenAI, or of one encoder with its tokenizer.

    What is wrong with a folder of such a kind, and that a type of models is not run here, is told
    when it is loaded: no bid would hide it.
    """
    if model.is_remote:
        return None
    files = {file.name: file for file in model.folder_files}
    if GENAI_CONFIG in files:
        return _generator(model, list(files.values()))
    graph = graph_name(files)
    if graph and TOKENIZER in files:
        return _encoder(model, [file for name, file in files.items() if name.startswith(graph)])
    return None


def _generator(model: Model, files: Sequence[ModelFile]) -> Claim | None:
    weights = [file for file in files if file.name.endswith(WEIGHTS)]
    try:
        config = genai_config(model.documents.get(GENAI_CONFIG))
    except ValueError:
        return Claim(
            backend=NAME,
            confidence=_CONFIDENCE,
            why=f"a folder with a {GENAI_CONFIG}",
            capabilities=("completion",),
            memory=_memory(weights),
            environment=ENVIRONMENT,
        )
    parts = " and ".join(config.other_parts)
    more = f", for text alone: it is given no {parts}" if parts else ""
    if config.not_run:
        more = ", of a kind that cannot be loaded"
    return Claim(
        backend=NAME,
        confidence=_CONFIDENCE,
        why=f"an ONNX Runtime GenAI model of type {config.model.type}{more}",
        capabilities=("completion",),
        context_tokens=config.model.context_length,
        memory=_memory(weights, config.token_bytes),
        environment=ENVIRONMENT,
    )


def _encoder(model: Model, files: Sequence[ModelFile]) -> Claim:
    scores = scores_pairs(model.documents)
    return Claim(
        backend=NAME,
        confidence=_CONFIDENCE,
        why="an ONNX cross-encoder" if scores else "an ONNX encoder with its tokenizer",
        capabilities=("rerank",) if scores else ("embedding",),
        context_tokens=encoder_limit(model.documents),
        memory=_memory(files),
        environment=ENVIRONMENT,
        slots=1,
    )


def _memory(weights: Sequence[ModelFile], token_bytes: int = 0) -> MemoryNeed:
    size = sum(file.size_bytes for file in weights)
    return MemoryNeed(base_bytes=int(size * _PACKED) + _LIBRARY_BYTES, per_token_bytes=token_bytes)
