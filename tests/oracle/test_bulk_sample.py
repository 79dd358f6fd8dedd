"""Twenty thousand rows at random of tables of many plans, each planned by itself too: memory to the byte (two minutes)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from bulk_oracle import differences, sampled


@pytest.mark.parametrize("seed", range(1000, 1010))
def test_two_thousand_rows_equal_the_scalar_plans(seed):
    """All engines, models, quantizations and cards, 1 to 16 of them, a workload at random."""
    table, rows = sampled(seed, 2000)
    assert not differences(table, rows)[:3]
