"""Tests of queries that are kept: no more than may be, the last used longest."""

import duckdb
import pyarrow as pa

from runtime.batches.prepared import Preparations

NUMBERS = pa.table({"n": [1, 2, 3]})


def test_no_more_are_kept_than_may_be_and_the_last_used_longest() -> None:
    kept = Preparations(duckdb.connect(), most=2)
    first = None
    for sql in ("SELECT 1 FROM n", "SELECT 2 FROM n", "SELECT 1 FROM n", "SELECT 3 FROM n", "SELECT 1 FROM n"):
        key, query = kept.take(sql, {"n": NUMBERS.schema})
        assert query.run({"n": NUMBERS.to_reader}, 10).read_all().num_rows == 3
        if sql == "SELECT 1 FROM n":
            assert first in (None, query)
            first = query
        kept.give_back(key, query)
    assert len(kept) == 2
    kept.close()
    assert len(kept) == 0


def test_of_two_that_are_the_same_one_is_kept() -> None:
    kept = Preparations(duckdb.connect())
    taken = [kept.take("SELECT n FROM n", {"n": NUMBERS.schema}) for _ in range(2)]
    assert taken[0][1] is not taken[1][1]
    for key, query in taken:
        kept.give_back(key, query)
    assert len(kept) == 1
