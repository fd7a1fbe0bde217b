"""Retraining as one run of all jobs, and the service that does it again and again."""
