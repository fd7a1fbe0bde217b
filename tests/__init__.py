"""All tests. The jobs come first, as they tell NumPy and torch to wait for each other without burning the cores."""

import training  # noqa: F401
