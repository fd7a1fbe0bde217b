"""The two towers over HTTP: a BentoML service around the releases that the registry's aliases name."""
