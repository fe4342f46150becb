"""A knee's vector with some readings replaced is the vector of the readings so replaced."""

import numpy as np
import pytest

from bundle.readings import MISSING_POLICIES, grade_table

OWN = {"XRKL": 2, "XROSFM": 1, "XRJSM": 1.5, "XRCHL": 1}


@pytest.mark.parametrize("policy", MISSING_POLICIES)
@pytest.mark.parametrize("name", ["oai", "paper"])
@pytest.mark.parametrize("told", [{"XRCHM": 1}, {"XRKL": 4, "XRJSM": 3}, {"XRATTL": 1, "XRCYTM": 1, "XRCHL": 0}, {}])
def test_replaced_readings_are_as_if_they_had_been_read(name, policy, told):
    """First, middle and last variables; read and unread ones; under `mask` a replaced reading counts as known."""
    table = grade_table(name)
    vector = table.encode(OWN, policy=policy)
    kept = vector.copy()
    np.testing.assert_array_equal(table.replaced(vector, told, policy=policy), table.encode(OWN | told, policy=policy))
    np.testing.assert_array_equal(vector, kept)


def test_replaced_readings_are_checked():
    table = grade_table("oai")
    with pytest.raises(ValueError, match=r"XRCHM.*from 0 to 1"):
        table.replaced(table.encode(OWN), {"XRCHM": 2})
    with pytest.raises(ValueError, match=r"shape \(85,\).*got \(66,\)"):
        table.replaced(table.encode(OWN), {"XRCHM": 1}, policy="mask")
