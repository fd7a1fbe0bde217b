"""The ranker service: serves the releases that the registry's aliases name over HTTP, with BentoML."""
