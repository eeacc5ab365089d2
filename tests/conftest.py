"""The fixtures that all tests share."""

# What others import comes first: pytest cannot rewrite the assertions of a module that is imported already.
pytest_plugins = [
    "tests.kit.database",
    "tests.kit.graphql",
    "tests.kit.desk",
    "tests.kit.engine",
    "tests.kit.guard",
    "tests.kit.stack",
    "tests.kit.platform",
    "tests.kit.valkey",
    "tests.kit.working",
]
