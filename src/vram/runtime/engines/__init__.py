"""Engines as programs on this machine: where each is, how it is started, and what it says. One file an engine."""
