"""The public API: recommendations, items and events over HTTP."""
