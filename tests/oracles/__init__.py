"""Independent judges of what we compute, written another way."""
