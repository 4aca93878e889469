import numpy as np
import pandas as pd
import pytest
from scipy.stats import iqr, percentileofscore

from core.descriptors import NAMES
from core.diagnostics.descriptors import COLUMNS, against


@pytest.fixture
def others() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({name: rng.normal(i, 1 + i, 40) for i, name in enumerate(NAMES)})


def test_every_descriptor_stands_where_scipy_puts_it(others: pd.DataFrame) -> None:
    values = {name: float(i) for i, name in enumerate(NAMES)}
    table = against(values, others)
    assert tuple(table.columns) == COLUMNS
    assert table["descriptor"].tolist() == list(NAMES)
    for row in table.itertuples():
        column = others[row.descriptor]
        assert row.below == pytest.approx(percentileofscore(column, row.value, kind="strict") / 100)
        assert row.spreads == pytest.approx((row.value - np.median(column)) / iqr(column, scale="normal"), rel=1e-3)
        assert row.p05 < row.p25 < row.p50 < row.p75 < row.p95
        assert row.n == 40


def test_what_is_undefined_stays_so(others: pd.DataFrame) -> None:
    others.loc[3:, "rms_dbfs"] = np.nan
    others["peak_dbfs"] = -6.0
    table = against({"rms_dbfs": -20.0, "peak_dbfs": -3.0}, others.drop(columns="loudness_lufs")).set_index(
        "descriptor"
    )
    assert table.loc["rms_dbfs", "n"] == 3
    assert np.isnan(table.loc["rms_dbfs", "below"])
    assert table.loc["peak_dbfs", "below"] == 1
    assert np.isnan(table.loc["peak_dbfs", "spreads"])
    assert table.loc["loudness_lufs", "n"] == 0
    assert np.isnan(table.loc["crest_factor_db", "below"])
