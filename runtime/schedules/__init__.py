"""When pipelines start by themselves: what is due, what becomes of it, and who decides."""
