"""Where technology is allowed: each module ties one technology to one port, or serves ports over a wire."""
