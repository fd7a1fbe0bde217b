"""The shared library: contracts, ports, the pipeline, the model, and the adapters that tie them to technology."""
