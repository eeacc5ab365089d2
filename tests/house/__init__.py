"""The rules of the house that linters do not know."""
