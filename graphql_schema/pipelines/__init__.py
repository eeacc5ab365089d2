"""Pipelines: their steps and versions; saving, pausing, archiving, compiling and previewing them."""
