"""The model and its files: two towers, second stage, vocabulary, releases and the registry. Imports nothing itself."""
