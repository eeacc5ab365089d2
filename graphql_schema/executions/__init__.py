"""Executions of pipelines: their steps, checks and events; starting, stopping and following them."""
