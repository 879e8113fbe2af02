"""Runs llama.cpp on a GGUF file and prints what comes of it; it may end its process.

python llama_child.py < {"gguf": PATH, "ids": [[...]], "texts": [...], "adapter": PATH}
"""

import ctypes
import json
import sys
from typing import Any

import llama_cpp
import numpy as np

YES = True


def main() -> None:
    asked = json.load(sys.stdin)
    llama_cpp.llama_backend_init()
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    if not asked.get("loud"):
        llama_cpp.llama_log_set(silent, ctypes.c_void_p())
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = not asked.get("ids")
    parameters.use_mmap = False
    model = llama_cpp.llama_model_load_from_file(asked["gguf"].encode(), parameters)
    if not model:
        sys.exit("llama.cpp refuses the file")
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    texts = [
        tokens(vocabulary, text, special=asked.get("special", False))
        for text in asked.get("texts", [])
    ]
    rows = run(model, asked) if asked.get("ids") else []
    sys.stdout.write(json.dumps({"texts": texts, "rows": rows}))


def tokens(vocabulary: Any, text: str, *, special: bool) -> list[int]:
    data = text.encode()
    room = (llama_cpp.llama_token * (len(data) + 16))()
    count = llama_cpp.llama_tokenize(vocabulary, data, len(data), room, len(room), special, YES)
    assert count >= 0
    return list(room[:count])


def run(model: Any, asked: dict[str, Any]) -> list[list[list[float]]]:
    parameters = llama_cpp.llama_context_default_params()
    longest = max(len(ids) for ids in asked["ids"])
    parameters.n_ctx = asked.get("context", 256)
    parameters.n_batch = parameters.n_ubatch = max(longest, 32)
    parameters.n_threads = parameters.n_threads_batch = 1
    parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
    parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    embeds = asked.get("embeds", False)
    parameters.embeddings = embeds
    if embeds:
        parameters.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_NONE
    context = llama_cpp.llama_init_from_model(model, parameters)
    assert context
    if "adapter" in asked:
        adapter = llama_cpp.llama_adapter_lora_init(model, asked["adapter"].encode())
        if not adapter:
            sys.exit("llama.cpp refuses the adapter")
        adapters = (type(adapter) * 1)(adapter)
        scales = (ctypes.c_float * 1)(1.0)
        assert llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales) == 0
    return [rows_of(model, context, ids, embeds=embeds) for ids in asked["ids"]]


def rows_of(model: Any, context: Any, ids: list[int], *, embeds: bool) -> list[list[float]]:
    memory = llama_cpp.llama_get_memory(context)
    if memory:
        llama_cpp.llama_memory_clear(memory, YES)
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for place, token in enumerate(ids):
        batch.token[place] = token
        batch.pos[place] = place
        batch.n_seq_id[place] = 1
        batch.seq_id[place][0] = 0
        batch.logits[place] = True
    assert llama_cpp.llama_decode(context, batch) == 0
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    width = (
        llama_cpp.llama_model_n_embd(model)
        if embeds
        else llama_cpp.llama_vocab_n_tokens(vocabulary)
    )
    give = llama_cpp.llama_get_embeddings_ith if embeds else llama_cpp.llama_get_logits_ith
    rows = [
        np.ctypeslib.as_array(give(context, place), (width,)).astype(float).tolist()
        for place in range(len(ids))
    ]
    llama_cpp.llama_batch_free(batch)
    return rows


main()
