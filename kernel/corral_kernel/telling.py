"""Warnings to clients in the server's log, so that whoever runs it learns of them too."""

import logging
from collections.abc import Iterable

logger = logging.getLogger(__name__)

MOST_TEXTS = 500
"""Different texts that are logged; what clients can put into one is their choice, and endless."""


class WarningLog:
    """Logs each text once."""

    def __init__(self) -> None:
        self._texts: set[str] = set()

    def add(self, warnings: Iterable[str]) -> None:
        """Log those that are new."""
        for text in warnings:
            if text in self._texts or len(self._texts) > MOST_TEXTS:
                continue
            self._texts.add(text)
            if len(self._texts) > MOST_TEXTS:
                logger.warning("warnings to clients are not logged any more: there were too many")
            else:
                logger.warning("a client was warned: %s", text)
