"""The feature service: user histories and trending items over HTTP, from the Redis feature store."""
