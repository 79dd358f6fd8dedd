"""The gateway: an OpenAI-compatible front door that admits a request only where its KV cache fits."""
