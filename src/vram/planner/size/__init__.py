"""Pools for a workload: the GPUs, placement, replicas and settings of least cost that keep a service level, found by replaying the requests."""
