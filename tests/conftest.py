"""The fixtures that all tests share."""

pytest_plugins = [
    "tests.kit.database",
    "tests.kit.desk",
    "tests.kit.engine",
    "tests.kit.graphql",
    "tests.kit.guard",
    "tests.kit.platform",
    "tests.kit.stack",
    "tests.kit.valkey",
    "tests.kit.working",
]
