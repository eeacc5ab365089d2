"""The whole program, as processes that are killed, stopped and cut off while it works."""
