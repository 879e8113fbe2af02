"""A registry on loopback that has one blob: `python -m benchmarks.file_registry FILE DIGEST PORT`.

It sends the file by `sendfile`, in any stretch of it, so that it is not what is measured, and takes
uploads without keeping them.
"""

import hashlib
import http.server
import json
import os
import re
import socketserver
import sys
from pathlib import Path
from typing import Any, Final

CONFIG: Final = b'{"model_format":"gguf","model_family":"llama"}'
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")
_PIECE: Final = 1 << 20


def manifest_of(digest: str, size_bytes: int) -> bytes:
    """Give the manifest of a model of that one file."""
    config = f"sha256:{hashlib.sha256(CONFIG).hexdigest()}"
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": digest}
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": config,
            "size": len(CONFIG),
        },
        "layers": [{**layer, "size": size_bytes}],
    }
    return json.dumps(document).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for one file."""

    protocol_version = "HTTP/1.1"
    path_of_file: Path
    digest: str

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Give the manifest, the config, or a stretch of the file."""
        if "/manifests/" in self.path:
            self._send(manifest_of(self.digest, self.path_of_file.stat().st_size))
        elif self.path.endswith(self.digest):
            self._send_file()
        else:
            self._send(CONFIG)

    def do_HEAD(self) -> None:
        """Have nothing, so that everything is sent."""
        self._answer(404)

    def do_POST(self) -> None:
        """Begin an upload."""
        self._swallow()
        host = self.headers["Host"]
        self._answer(202, {"Location": f"http://{host}{self.path}upload"})

    def do_PATCH(self) -> None:
        """Take a part."""
        self._swallow()
        self._answer(202, {"Location": self.path})

    def do_PUT(self) -> None:
        """End an upload, or take a manifest."""
        self._swallow()
        self._answer(201)

    def _send_file(self) -> None:
        size = self.path_of_file.stat().st_size
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        start, end = (int(found[1]), min(int(found[2]) + 1, size)) if found else (0, size)
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{size}"} if found else {}
        self._answer(206 if found else 200, headers, end - start)
        with self.path_of_file.open("rb") as file:
            while start < end:
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, end - start)

    def _swallow(self) -> None:
        left = int(self.headers.get("Content-Length", 0))
        while left and (piece := self.rfile.read(min(left, _PIECE))):
            left -= len(piece)

    def _send(self, body: bytes) -> None:
        self._answer(200, {}, len(body))
        self.wfile.write(body)

    def _answer(self, status: int, headers: dict[str, str] | None = None, length: int = 0) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A thread for each connection."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are no news."""


def main() -> None:
    """Serve until killed."""
    Handler.path_of_file, Handler.digest = Path(sys.argv[1]), sys.argv[2]
    Server(("127.0.0.1", int(sys.argv[3])), Handler).serve_forever()


if __name__ == "__main__":
    main()
