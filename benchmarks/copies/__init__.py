"""The bench of the search for near copies."""
