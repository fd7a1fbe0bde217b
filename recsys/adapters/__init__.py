"""Adapters: each module implements ports with one technology. Only adapters import clients of external systems."""
