"""Watches a promotion that ramps: moves it on, or takes the release back when users get less from it."""
