"""What the plugins of this package register in."""

from runtime.registry import Registry

INSTRUMENTS: Registry[type[object]] = Registry("instrument", "tests.runtime.instruments", "tests.instruments")
