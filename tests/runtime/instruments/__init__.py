"""A package of plugins for the tests of the registry."""
