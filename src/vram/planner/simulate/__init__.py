"""Replaying requests against pools: continuous batching under the real KV capacity, step by step, without an engine."""
