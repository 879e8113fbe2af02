"""A model's folder becomes one GGUF file."""

from collections.abc import Sequence
from pathlib import Path

import gguf

from corral_kernel.errors import CorralError, InvalidModelError
from corral_safetensors.architectures import family_of
from corral_safetensors.families import Described
from corral_safetensors.metadata import write_general, write_pooling
from corral_safetensors.notes import Note
from corral_safetensors.reader import Stored
from corral_safetensors.settings import Settings
from corral_safetensors.source import ModelFiles
from corral_safetensors.tensors import FILE_TYPES, Outgoing, OutOfRangeError, OutType
from corral_safetensors.vocabulary import vocabulary_of
from corral_safetensors.vocabulary.special import write_special
from corral_safetensors.writing import Report, write_file


def convert(
    source: ModelFiles, out: Path, report: Report, note: Note, out_type: OutType | None = None
) -> None:
    """Convert a model.

    Args:
        source: Its files.
        out: Where the GGUF file goes; if the conversion fails, nothing is left there.
        report: Told of progress.
        note: Told what the new model does not do as the old one did.
        out_type: What matrices are written as; `None` for what they are stored as, but float16
            for float32, as llama.cpp's own converter has it, or bfloat16 if that is too small.

    Raises:
        CorralError: If the model is damaged, or of a kind that is not converted.
    """
    try:
        _convert(source, out, report, note, out_type)
    except OutOfRangeError as error:
        if out_type is not None:
            raise
        note(f"written as bfloat16: {error}")
        _convert(source, out, _once_more(report), note, OutType.BF16)


def _convert(
    source: ModelFiles, out: Path, report: Report, note: Note, out_type: OutType | None
) -> None:
    config = Settings(source.mapping("config.json", needed=True))
    family, config = family_of(config)
    _refuse_quantized(config)
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[family.arch])
    described = family.describe(config, writer, note)
    stored = source.tensors()
    kind = out_type or _usual_type(stored)
    tensors: list[Outgoing] = [*described.made, *described.layout.moved(stored, kind)]
    writer.add_type(gguf.GGUFType.MODEL)
    write_general(source, tensors, writer)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _write_tokenizer(source, described, writer, out.parent)
    write_pooling(source, writer, pooled=described.pooled)
    written(writer, tensors, out, report)


def _once_more(report: Report) -> Report:
    """Progress of a second pass, which begins in the middle of what is left."""

    def tell(done: int, total: int) -> None:
        report(total + done, 2 * total)

    return tell


def written(
    writer: gguf.GGUFWriter, tensors: Sequence[Outgoing], out: Path, report: Report
) -> None:
    """Write a file, or leave none."""
    try:
        write_file(writer, tensors, out, report)
    except (CorralError, OSError):
        out.unlink(missing_ok=True)
        raise


def _write_tokenizer(
    source: ModelFiles, described: Described, writer: gguf.GGUFWriter, scratch: Path
) -> None:
    vocabulary = vocabulary_of(source, described.vocabulary_size)
    vocabulary.write(writer)
    write_special(source, vocabulary, writer, scratch)


def _usual_type(tensors: Sequence[Stored]) -> OutType:
    """The type of the first matrix of 16 bits; float16, if there is none."""
    for tensor in tensors:
        if len(tensor.shape) > 1 and tensor.dtype in {"F16", "BF16"}:
            return OutType[tensor.dtype]
    return OutType.F16


def _refuse_quantized(config: Settings) -> None:
    if config.has("quantization_config"):
        method = config.part("quantization_config").text("quant_method", "some method")
        raise InvalidModelError(
            f"the weights are quantized by {method}; "
            "convert the original weights, and quantize the result"
        )
