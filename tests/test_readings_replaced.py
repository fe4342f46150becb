"""Readings replaced in a code are those of the changed dictionary."""

import numpy as np
import pytest

from bundle.readings import MISSING_POLICIES, grade_table

TABLE = grade_table("oai")
OWN = {"XRKL": 2, "XRJSM": 1.5, "XRCHM": 1, "XRCYTM": 2}


@pytest.mark.parametrize("policy", MISSING_POLICIES)
@pytest.mark.parametrize("change", [{"XRCHM": None}, {"XRCHM": 0, "XRATTL": 3}, {"XRKL": 4}, {}])
def test_replacing_in_the_code_is_replacing_before_coding(policy, change):
    code = TABLE.encode(OWN, policy=policy)
    before = code.copy()
    np.testing.assert_array_equal(
        TABLE.replaced(code, change, policy=policy), TABLE.encode(OWN | change, policy=policy)
    )
    np.testing.assert_array_equal(code, before)


@pytest.mark.parametrize(("change", "reason"), [({"XREFF": 1}, "unknown reading"), ({"XRCHM": 2}, "from 0 to 1")])
def test_what_the_table_lacks_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        TABLE.replaced(TABLE.encode(OWN), change)


def test_a_code_of_another_policy_is_refused():
    with pytest.raises(ValueError, match="must have shape"):
        TABLE.replaced(TABLE.encode(OWN), {}, policy="mask")
