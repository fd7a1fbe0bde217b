"""Every shape that crosses a wire or a port, once. Requests refuse unknown fields; answers let them pass, so that
services can be upgraded one at a time."""
