"""Heads of GGUF files: what a model is, read in milliseconds and without trusting the file.

    header = read_header(path)              # InvalidModelError, NotGgufError, OSError
    header.architecture, header.context_length, header.parameter_count, header.chat_template, …
    header.get("llama.rope.freq_base")      # a scalar, a short array as a tuple, else None
    header.metadata["tokenizer.ggml.tokens"]    # Value(type=ARRAY, item_type=STRING, count=49152)
    header.tensors[0]                       # TensorInfo(name, shape, type, offset)
    read_value(path, header.metadata[key])  # what was skipped: long arrays and long texts
    check_adapter(adapter, header.tensors)  # InvalidModelError, where it is for other weights

Nothing here imports the `gguf` package: its reader builds every token of a vocabulary as an object.
"""

from corral_kernel.gguf.adapters import check_adapter
from corral_kernel.gguf.header import GgufHeader, TensorInfo, Value
from corral_kernel.gguf.reader import MAGIC, read_header, read_records, read_value
from corral_kernel.gguf.types import FILE_TYPES, GGML_TYPES, TensorType, ValueType

__all__ = [
    "FILE_TYPES",
    "GGML_TYPES",
    "MAGIC",
    "GgufHeader",
    "TensorInfo",
    "TensorType",
    "Value",
    "ValueType",
    "check_adapter",
    "read_header",
    "read_records",
    "read_value",
]
