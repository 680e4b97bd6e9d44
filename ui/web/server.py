"""Running the app: a port of our own, one line for the log, an orderly end."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from align.errors import RunError

GRACE_S = 2.0
"""How long requests may go on after Ctrl-C before their connections are closed; Gradio's pages hold some open for ever."""
SHUTDOWN_S = 8
KEEP_ALIVE_S = 75
"""How long an idle connection stays open. Longer than people think about a task, or every answer would begin with a new one."""


@contextmanager
def bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens on host and port; taken before any long work, so that a clash is told at once.

    Raises:
        RunError: The port is taken or not allowed, or the host isn't one of this machine's names.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, OverflowError) as error:
        raise RunError(f"{host!r} is no host name that is known here; try --host 127.0.0.1") from error
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(128)
        except OSError as error:
            raise RunError(_explain(host, port, error)) from error
        yield listener


def _explain(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another program; choose another one with --port"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that you don't have; choose one above 1023 with --port"
    return f"can't listen on {host}, port {port}: {error.strerror}; choose others with --host and --port"


class _Server(uvicorn.Server):
    """Ends in an orderly way even while pages are open that wait for news."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(GRACE_S, self._close_connections)
        await super().shutdown(sockets)

    def _close_connections(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.close()


def serve(app: FastAPI, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; returns after SIGINT, ends the process after SIGTERM, both in an orderly way."""
    with tempfile.TemporaryDirectory(prefix="gptsim-label-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # downloads of an admin; the default is shared by all Gradio apps
        # No access log: it would hold invitations and who watched what.
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        try:
            _Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            return
