"""Tests of the tables and the values they hold."""
