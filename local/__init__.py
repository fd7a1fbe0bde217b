"""Runs everything on one machine without Docker: embedded stores, the services as local processes, and the demo."""
