"""Which events followed which recommendations, counted by day."""
