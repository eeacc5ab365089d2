"""Keeps Python's garbage collector off what lives as long as the process, and from running amid every answer."""

import gc

NEW_OBJECTS = 20_000


def settle() -> None:
    """Call once a process has loaded what it needs: what is there now is never looked through again.

    With Python's own threshold of 700 new objects a page of a list is interrupted some forty times, and each of the
    rare full collections looks through all modules and the schema (measured: 60-100 ms).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 10, 10)
