"""The only room that imports Ray. A local cluster asks for a token: Ray reads that when it is imported, hence here."""

import os
import secrets

if "RAY_ADDRESS" not in os.environ and "RAY_AUTH_MODE" not in os.environ:
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
# Ray runs its workers at nice 15, where any other program of the machine makes executions wait.
os.environ.setdefault("RAY_worker_niceness", "0")
# Logs of its processes are rotated, and so bounded; unless they are, Ray looks up their sizes four times a task.
os.environ.setdefault("RAY_ROTATION_MAX_BYTES", str(100 * 1024 * 1024))
