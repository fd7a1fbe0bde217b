"""Users' histories and the trending items over HTTP: a thin shell around the Redis feature store."""
