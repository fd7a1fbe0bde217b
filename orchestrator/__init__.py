"""The one public API: recommendations, items and events over HTTP, in front of the pipeline."""
