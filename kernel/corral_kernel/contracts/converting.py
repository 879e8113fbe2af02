"""Importers: from the layout that a model comes in to one that some backend claims."""

from collections.abc import Sequence

from corral_kernel.contracts.making import MadeFile, Maker, Offer, Source, Work


class Converter(Maker):
    """Makes models and adapters of other layouts into GGUF files, or into folders of files.

    Its entry module is light, as any plugin's: `offer` runs in the server, `convert` in a task
    process, and only there may its library be imported.
    """

    def offer(self, source: Source) -> Offer | None:
        """Bid for a source that this converter can read, or return `None`.

        Called in the server: at once, and from what it is given alone.

        Raises:
            CorralError: If the source is of this converter's kind and cannot be converted all the
                same. The message is the user's answer, unless another converter makes an offer:
                `unsupported architecture "MambaForCausalLM"`.
        """
        raise NotImplementedError

    def convert(self, work: Work) -> Sequence[MadeFile]:
        """Convert. Called once in a process, in its main thread, where nobody else waits for it.

        The same source gives the same bytes each time.

        Raises:
            CorralError: If the source is damaged or holds what cannot be converted.
        """
        raise NotImplementedError
