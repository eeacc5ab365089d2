"""`python -m api.cli` is `wedsync`."""

from api.cli.main import main

main()
