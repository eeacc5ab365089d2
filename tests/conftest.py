"""The fixtures that all tests share."""

import signal

from hypothesis import HealthCheck, settings

# No example is too slow on a busy machine: speed is measured in benchmarks, not here.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# A shell has what it starts in the background ignore Ctrl-C, and the programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What others import comes first: pytest cannot rewrite the assertions of a module that is imported already.
pytest_plugins = [
    "tests.kit.database",
    "tests.kit.graphql",
    "tests.kit.desk",
    "tests.kit.engine",
    "tests.kit.guard",
    "tests.kit.lanes",
    "tests.kit.stack",
    "tests.kit.platform",
    "tests.kit.valkey",
    "tests.kit.working",
]
