import numpy as np
import pandas as pd

from memviz.rendering import against_photographs


def table(**columns):
    return pd.DataFrame({"unit": pd.array([4, 2, 7, 9], dtype="Int64"), "peak": [6.0, 1.0, 3.0, 3.0]} | columns)


def test_peaks_are_compared_by_unit():
    found = against_photographs(table(activation=[0.0] * 4), {2: 2.0, 4: 3.0, 7: -1.0, 9: 3.0})
    assert found["best_photograph"].tolist() == [3.0, 2.0, -1.0, 3.0]
    assert found["ratio"].tolist()[:2] == [2.0, 0.5]
    # A photograph that does not excite the unit makes no ratio; one just as good is not beaten.
    assert np.isnan(found["ratio"][2])
    assert found["succeeds"].tolist() == [True, False, True, False]
    assert list(found.columns) == ["unit", "peak", "activation", "best_photograph", "ratio", "succeeds"]


def test_a_unit_without_photographs_has_no_verdict_of_success():
    found = against_photographs(table(), {4: 3.0})
    assert found["best_photograph"].isna().tolist() == [False, True, True, True]
    assert found["ratio"].isna().tolist() == [False, True, True, True]
    assert found["succeeds"].tolist() == [True, False, False, False]


def test_the_table_given_is_not_changed():
    given = table()
    against_photographs(given, {4: 3.0})
    pd.testing.assert_frame_equal(given, table())


def test_best_may_be_a_series():
    best = pd.Series([2.0, 3.0, 1.0, 1.0], index=[2, 4, 7, 9])
    assert against_photographs(table(), best)["ratio"].tolist() == [2.0, 0.5, 3.0, 3.0]
