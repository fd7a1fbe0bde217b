"""The types that cross a network boundary or a port, each defined once.

Requests reject unknown fields. Responses ignore them, so that services can be upgraded one at a time.
"""
