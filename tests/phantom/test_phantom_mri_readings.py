"""Each reading, raised from none to its highest grade, shows in the MRI where it belongs."""

import numpy as np
import pytest

from bundle.phantom.anatomy import sample_person
from bundle.phantom.mri import render_mri
from bundle.phantom.pose import solve_pose
from bundle.phantom.tissues import SIGNAL
from bundle.readings import VARIABLES, grade_table

NONE = dict.fromkeys(VARIABLES[1:], 0)
SIZE = 128
PIXEL = 160 / SIZE
MOVES_A_BONE = ("XRJSM", "XRJSL", "XRATTM", "XRATTL")
RAISES_KL = ("XROSFM", "XROSFL", "XROSTM", "XROSTL")


@pytest.fixture(scope="module")
def healthy():
    person = sample_person(31, 4, readings={"R": NONE})
    posed = solve_pose(person.knees["R"], "mri")
    return render_mri(person, "R", size=SIZE, posed=posed)[0], posed.tibia.shift


@pytest.mark.parametrize("reading", VARIABLES[1:])
def test_reading_changes_a_tenth_of_a_cubic_centimetre_of_its_compartment(healthy, reading):
    before, joint = healthy
    highest = grade_table("oai").highest[reading]
    person = sample_person(31, 4, readings={"R": NONE | {reading: highest}})
    after, _ = render_mri(person, "R", size=SIZE)
    changed = np.abs(after - before) > 0.25 * SIGNAL["cartilage"]
    columns = ((SIZE - 1) / 2 - np.arange(SIZE)) * PIXEL - joint[0]
    own = columns > 0 if reading.endswith("L") else columns < 0
    volume = PIXEL**2 * 1.5 / 1000
    assert changed[:, :, own].sum() * volume > 0.1
    if reading not in MOVES_A_BONE + RAISES_KL:
        rows = ((SIZE - 1) / 2 - np.arange(SIZE)) * PIXEL - joint[2]
        assert changed[:, :, ~own].sum() * volume < 0.02
        assert changed[:, np.abs(rows) > 35].sum() * volume < 0.02
