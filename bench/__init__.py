"""How fast it answers, always beside what else was measured in the same run."""
