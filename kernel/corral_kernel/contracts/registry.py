"""Where models come from."""

from collections.abc import Sequence

from corral_kernel.models import LentModel


class Registry:
    """A source of models; lives in the server.

    Attributes:
        name: What it is listed by.
    """

    name: str

    def lent(self) -> Sequence[LentModel]:
        """Models served in place, without a pull; asked again whenever models are listed.

        Must be quick (milliseconds) and read metadata alone. An exception counts as none.
        """
        return ()
