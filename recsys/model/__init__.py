"""The two towers and what makes them a model on disk: weights, config, vocabulary. Nothing heavy is imported here."""
