"""The model store: names to manifests to blobs, in the layout that Ollama uses.

    store = Store(root, cache_dir, prune=True, lent=registries.lent)
    store.start_up()                    # once, before requests: clean up after crashes
    store.open(name)                    # Model; ModelNotFoundError; `exact=True`: mind the case
    store.list_models()                 # newest first
    store.resolve(name)                 # the name as existing models spell its parts
    store.copy(source, destination)     store.delete(name)
    store.collect_garbage(Wish(dry_run=True))      # GarbageReport: what no model needs
    store.verify(model)                 # before loading: lent files have the digests they claim
    store.lay_out(model)                # before loading: a folder's files lie under their names
    store.header(file)                  # GgufHeader of any file of a model (adapters, projectors)
    store.blobs.writer()                # BlobWriter: write(chunk), finish("sha256:…"), abort()
    digest in store.blobs               store.blobs.size(digest)

    for step in create_model(store, CreateRequest(model="mine", base="smollm2")): ...

    modelfile_text(model)  parameters_text(model)  model_info(model)  tensor_list(model)

Everything is synchronous, thread-safe and touches the disk: from asyncio, call it in a thread.
"""

from corral_kernel.store.blobs import Blobs, BlobWriter
from corral_kernel.store.create import create_model
from corral_kernel.store.fixed import Fixed, FixedStore
from corral_kernel.store.garbage import GarbageReport, Heap, Wish
from corral_kernel.store.requests import CreateRequest
from corral_kernel.store.show import (
    header_info,
    model_info,
    modelfile_text,
    parameters_text,
    shown_template,
    tensor_list,
)
from corral_kernel.store.steps import NeedsTask, Progress
from corral_kernel.store.store import Store

__all__ = [
    "BlobWriter",
    "Blobs",
    "CreateRequest",
    "Fixed",
    "FixedStore",
    "GarbageReport",
    "Heap",
    "NeedsTask",
    "Progress",
    "Store",
    "Wish",
    "create_model",
    "header_info",
    "model_info",
    "modelfile_text",
    "parameters_text",
    "shown_template",
    "tensor_list",
]
