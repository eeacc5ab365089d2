"""Runs a module as a child process that ends when its parent does: `python -m runtime.embedded.child PARENT MODULE`.

It imports the modules named after MODULE at once, then waits for one line of JSON on its standard input,
`{"log": path, "environment": {…}}`, writes to that log from then on, and becomes MODULE in that environment. So its
imports need not wait for what its parent has yet to find out.
"""

import ctypes
import importlib
import json
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Have the kernel end this process with its parent, be it by SIGKILL; then do as told."""
    parent, module, *early = int(sys.argv[1]), *sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit("the parent has ended already")
    for name in early:
        importlib.import_module(name)
    line = sys.stdin.readline()
    if not line:
        sys.exit("the parent has nothing to say")
    told = json.loads(line)
    os.environ.update(told["environment"])
    log = os.open(told["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
