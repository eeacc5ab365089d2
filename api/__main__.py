"""`python -m api` serves the API."""

import sys

from api.server import main

sys.exit(main())
