"""From a load request to an engine or an encoder."""

import numpy as np
import onnxruntime as ort
import onnxruntime_genai as og
from msgspec.structs import replace

from corral_kernel.contracts import EncodeItem, Engine, EngineInfo, LoadRequest
from corral_kernel.errors import CorralError, EngineError, InvalidModelError, LoadError
from corral_kernel.foldernames import GENAI_CONFIG, graph_name
from corral_onnx.adapters import Adapters
from corral_onnx.batched import BatchedModel, takes_batches
from corral_onnx.config import GenaiConfig, encoder_limit, scores_pairs
from corral_onnx.encoder import OnnxEncoder
from corral_onnx.engine import OnnxEngine
from corral_onnx.folder import Folder
from corral_onnx.graph import Graph, read_graph
from corral_onnx.memory import Growth
from corral_onnx.native import Native
from corral_onnx.options import OnnxOptions
from corral_onnx.pooling import pooling_of
from corral_onnx.providers import genai_names, session_names, wanted
from corral_onnx.session import Session
from corral_onnx.strands import Lanes
from corral_onnx.tokenizer import OnnxTokenizer
from corral_onnx.unfollowed import unfollowed

_CONTEXT_TOKENS = 4096
_BATCH_TOKENS = 512
_KEPT_LANES = 8
_ALIKE = 1e-2  # of logits, where a model goes back and on again
_ENCODED_AT_ONCE = 64


def load(request: LoadRequest) -> Engine:
    """Load a model; see `corral_load`.

    Raises:
        LoadError: With the library's own reason.
        InvalidModelError: If a file is missing, damaged, or asks for what no model may.
        InvalidOptionError: For an execution provider that this build has not.
    """
    options = request.options
    assert isinstance(options, OnnxOptions)
    providers = wanted(options.execution_provider)
    growth = Growth(request.files)
    folder = Folder(request.folder())
    request.report(0.0)
    if GENAI_CONFIG in folder.documents:
        return _load_engine(request, options, folder, providers, growth)
    return _load_encoder(request, options, folder, providers, growth)


def _load_engine(
    request: LoadRequest,
    options: OnnxOptions,
    folder: Folder,
    providers: tuple[str, ...],
    growth: Growth,
) -> OnnxEngine:
    config = folder.genai_config()
    bos_id = config.model.bos_token_id
    # Looked at before the weights: it costs little, and is wrong more often.
    tokenizer = OnnxTokenizer(folder, config.model.vocab_size, bos_id, config.end_ids)
    request.report(0.1)
    trained = config.model.context_length
    context = min(options.num_ctx or _CONTEXT_TOKENS, trained)
    slots = max(1, request.slots)
    graph = _graph(folder, config)
    native: Native | BatchedModel
    if batched := slots > 1 and not providers and takes_batches(config, graph):
        path = folder.path / config.model.decoder.filename
        native = BatchedModel(path, config, options.num_thread, slots, context)
    else:
        native = Native(folder.path, folder.parts, options.num_thread, genai_names(providers))
    request.report(0.9)
    width, can_rewind = _try_out(native)
    if width < len(tokenizer.pieces):
        raise InvalidModelError(
            f"the graph gives {width} logits; {GENAI_CONFIG} and the tokenizer speak of more"
        )
    lanes = Lanes(
        native.strand,
        context * slots,
        context,
        _KEPT_LANES,
        can_rewind and not config.forgets,
        alike=batched,
    )
    info = EngineInfo(
        capabilities=("completion", *(("adapters",) if graph.overridable else ())),
        vocab_size=width,
        context_tokens=context,
        slots=slots,
        batch_tokens=options.num_batch or _BATCH_TOKENS,
        memory_bytes=growth.bytes() + config.token_bytes * context * slots,
        details=_details(options, providers),
        warnings=unfollowed(options),
    )
    return OnnxEngine(native, tokenizer, lanes, Adapters(native, graph.overridable), info)


def _try_out(native: Native | BatchedModel) -> tuple[int, bool]:
    """Feed a few tokens: damage that loads is found here, not by the first request.

    Returns:
        The width of a row of logits, and whether the model can go back to an earlier position.

    Raises:
        LoadError: With the library's own reason.
    """
    try:
        strand = native.strand(3)
        strand.feed([0, 0])
        strand.feed([0])
        first = strand.row()
    except EngineError as error:
        raise LoadError(f"the model loads, and fails at its first token: {error}") from error
    try:
        strand.rewind(1)
        strand.feed([0, 0])
        again = strand.row()
    except EngineError:
        return first.shape[1], False
    finally:
        strand.close()
    return first.shape[1], bool(np.allclose(first, again, atol=_ALIKE, equal_nan=True))


def _graph(folder: Folder, config: GenaiConfig) -> Graph:
    """What the decoder's graph declares; nothing, if that cannot be read."""
    path = folder.path / config.model.decoder.filename
    try:
        return read_graph(path) if path.is_file() else Graph()
    except ValueError:
        return Graph()  # the library may read it nevertheless


def _load_encoder(
    request: LoadRequest,
    options: OnnxOptions,
    folder: Folder,
    providers: tuple[str, ...],
    growth: Growth,
) -> OnnxEncoder:
    name = graph_name(folder.names)
    if not name:
        raise InvalidModelError("the folder has no model.onnx, and not just one graph besides")
    scores = scores_pairs(folder.documents)
    tokenizer = OnnxTokenizer(folder)
    request.report(0.1)
    threads, places = options.num_thread, session_names(providers)
    session = Session(folder.path / name, threads, places, scores=scores)
    pooling = None if scores else pooling_of({} if session.pools else folder.documents)
    request.report(0.9)
    limit = encoder_limit(folder.documents)
    context = min(options.num_ctx or limit or _CONTEXT_TOKENS, limit or _CONTEXT_TOKENS)
    info = EngineInfo(
        capabilities=("rerank",) if scores else ("embedding",),
        context_tokens=context,
        slots=_ENCODED_AT_ONCE,
        batch_tokens=max(context, options.num_batch),
        truncates_to=context,
        details=_details(options, providers),
        warnings=unfollowed(options, encodes=True),
    )
    encoder = OnnxEncoder(session, tokenizer, pooling, info)
    try:
        encoder.encode([encoder.tokenize(EncodeItem(text="a"))])
    except CorralError as error:
        raise LoadError(f"the model loads, and fails at its first text: {error}") from error
    encoder.info = replace(info, memory_bytes=growth.bytes())  # what it ran with is part of it
    return encoder


def _details(options: OnnxOptions, providers: tuple[str, ...]) -> dict[str, str | int]:
    return {
        "library": f"onnxruntime-genai {og.__version__}, onnxruntime {ort.__version__}",
        "devices": ", ".join((*providers, "cpu")),
        **({"threads": options.num_thread} if options.num_thread else {}),
    }
