"""A small HTTP server on this machine that behaves as badly as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scapp import _download


@dataclass
class Site:
    """Files by path, how each is sent, and what was asked for.

    A behaviour takes the handler, the bytes of the file and the number of requests for it so far.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    behaviours: dict[str, Callable[[BaseHTTPRequestHandler, bytes, int], None]] = field(default_factory=dict)
    send: Callable[..., None] = field(default=None)  # type: ignore[assignment]
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    stop_stalling: threading.Event = field(default_factory=threading.Event)

    def add(self, name: str, content: bytes, behaviour: Callable | None = None) -> str:
        """Put a file on the site; returns its URL."""
        self.files[f"/{name}"] = content
        if behaviour is not None:
            self.behaviours[f"/{name}"] = behaviour
        return f"{self.url}/{name}"


def send(
    handler: BaseHTTPRequestHandler, content: bytes, *, n: int | None = None, kind: str = "application/octet-stream"
) -> None:
    """Send a file, or the part that a Range asks for; only the first `n` bytes of it although more are announced."""
    start = 0
    asked = handler.headers.get("Range")
    if asked:
        start = int(asked.removeprefix("bytes=").split("-")[0])
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    handler.wfile.write(content[start : None if n is None else start + n])
    handler.wfile.flush()


@contextmanager
def serving() -> Iterator[Site]:
    """A site that is there while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            n = sum(asked.partition("?")[0] == path for asked, _ in running.requests)
            running.requests.append((f"{path}?{query}" if query else path, self.headers.get("Range")))
            if path not in running.files:
                self.send_error(404)
            elif path in running.behaviours:
                running.behaviours[path](self, running.files[path], n)
            else:
                send(self, running.files[path])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = Site(f"http://127.0.0.1:{server.server_address[1]}", send=send)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.stop_stalling.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    """A site of its own for each test; scapp waits for it no longer than a moment."""
    monkeypatch.setattr(_download, "TIMEOUT", 0.4)
    monkeypatch.setattr(_download, "PAUSE", 0.01)
    for variable in (_download.DIR_VARIABLE, _download.URL_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    with serving() as found:
        yield found
