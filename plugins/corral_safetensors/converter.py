"""The converter as a plugin gives it. Light: what reads models is imported in a task process."""

import logging
from collections.abc import Sequence
from pathlib import Path

from corral_kernel.contracts import Converter, MadeFile, Offer, Source, Work
from corral_safetensors.names import ADAPTER_CONFIG, ARCHITECTURES, BASES, CONFIG, FORMAT

_CONFIDENCE = 0.8
_MADE = "model.gguf"
_log = logging.getLogger(__name__)


class SafetensorsConverter(Converter):
    """Makes GGUF files of models and adapters that are laid out as Hugging Face does it."""

    name = "safetensors"
    docs = "Hugging Face models and PEFT adapters of safetensors files to GGUF"
    library = "gguf"
    extra = "corral[safetensors]"

    def offer(self, source: Source) -> Offer | None:
        """Bid for the architectures that are known."""
        if source.format != FORMAT:
            return None
        if source.kind == "adapter":
            known = ADAPTER_CONFIG in source.documents and source.architecture in BASES
            why = f"an adapter for {source.architecture}"
        else:
            architecture = _architecture(source.documents.get(CONFIG))
            known = architecture in ARCHITECTURES
            why = f"a {architecture} of Hugging Face"
        return Offer(confidence=_CONFIDENCE, why=why) if known else None

    def convert(self, work: Work) -> Sequence[MadeFile]:
        """Convert in this process."""
        from corral_safetensors.adapters import convert_adapter
        from corral_safetensors.converting import convert
        from corral_safetensors.source import ModelFiles

        files = ModelFiles(
            {file.name: Path(file.path) for file in work.files if file.role == "file"}
        )
        out = work.folder / _MADE
        if work.source.kind == "adapter":
            convert_adapter(files, out, work.report, base=work.base)
            return [MadeFile(name=_MADE, role="adapter")]
        convert(files, out, work.report, _log.warning)
        return [MadeFile(name=_MADE)]


def _architecture(config: object) -> str:
    match config:
        case {"architectures": [str(name), *_]}:
            return name
    return ""
