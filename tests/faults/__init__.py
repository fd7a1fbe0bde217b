"""Tests of the guarantees in docs/reliability.md: every part of a running stack is made to fail."""
