"""Benchmarks: one question a file, run by command; README.md says how and holds the latest answers."""
