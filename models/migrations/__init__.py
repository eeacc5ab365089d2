"""The way from an empty database, or an older one, to the tables as they are now."""
