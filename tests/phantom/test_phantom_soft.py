"""Outline, muscles, cords and small solids of the phantom's limb."""

import numpy as np
import pytest
import torch

from bundle.phantom.anatomy import sample_person
from bundle.phantom.cords import cords
from bundle.phantom.lattice import NoiseField
from bundle.phantom.pose import Posed, solve_pose
from bundle.phantom.sdf import Tube, capsule, ellipse, squircle
from bundle.phantom.soft import Limb, muscles


@pytest.fixture(scope="module")
def posed() -> Posed:
    """The leanest of a few knees."""
    lean = min((sample_person(101, index) for index in range(8)), key=lambda person: person.knees["R"].fat)
    return solve_pose(lean.knees["R"], "mri")


def distances(posed: Posed, points: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """To skin and fascia, of points (n, 3) of the scan frame in ascending z, as a scan's rows are."""
    frames = []
    for frame in (posed.femur, posed.tibia, posed.patella):
        local = torch.tensor(frame.into(points), dtype=torch.float32)
        frames.append(tuple(local[:, axis].reshape(1, -1, 1) for axis in range(3)))
    skin, fascia = Limb(posed).distances(*frames)
    return skin.flatten(), fascia.flatten()


def test_superficial_veins_run_between_fascia_and_skin_of_a_lean_limb(posed):
    veins = [cord for cord in cords(posed, Limb(posed)) if cord.name.endswith(("saphenous vein", "accessory vein"))]
    assert len(veins) == 3
    rng = np.random.default_rng(0)
    for vein in veins:
        edges = np.array([(box.x, box.y, box.z) for box in vein.boxes])
        points = rng.uniform(edges[:, :, 0].min(axis=0), edges[:, :, 1].max(axis=0), size=(40_000, 3))
        points = points[np.abs(points[:, 2]) < 80]
        points = points[np.argsort(points[:, 2])]
        inside = vein.distance(tuple(torch.tensor(points[:, axis], dtype=torch.float32) for axis in range(3))) < 0
        assert int(inside.sum()) > 5
        skin, _ = distances(posed, points[inside.numpy()])
        assert float(skin.max()) < 0


@pytest.mark.parametrize("angle", [0.0, 60.0, 90.0, 150.0, 200.0])
@pytest.mark.parametrize(("part", "z"), [("thigh", 70.0), ("calf", -70.0)])
def test_subcutaneous_depth_0_is_on_the_fascia_and_1_on_the_skin(posed, part, z, angle):
    limb = Limb(posed)
    ends = [limb.subcutaneous(part, z, angle, depth) for depth in (0.0, 1.0)]
    skin, fascia = distances(posed, np.array([place for place, _ in ends]))
    assert float(fascia[0]) == pytest.approx(0, abs=0.6)
    assert float(skin[1]) == pytest.approx(0, abs=0.6)
    assert ends[0][1] == pytest.approx(np.linalg.norm(ends[1][0] - ends[0][0]))


def test_muscles_run_out_to_a_point(posed):
    """A belly's cross-section shrinks towards an end inside the field of view: no flat cut."""
    for muscle in muscles(posed):
        x = y = torch.arange(-70.0, 70.0, 1.0)
        z = torch.arange(-190.0, 190.0, 2.0)
        inside = muscle.distance((x[None, None, :], y[:, None, None], z[None, :, None])) < 0
        areas = inside.sum(dim=(0, 2)).numpy()
        occupied = np.flatnonzero(areas)
        end = occupied[0] if muscle.frame is posed.femur else occupied[-1]
        assert areas[end] < 0.25 * areas.max(), muscle.name


def test_nothing_soft_lies_outside_its_boxes(posed):
    """Rendering measures a muscle or a cord inside its boxes alone."""
    y, z, x = np.meshgrid(np.arange(-60, 61, 2.0), np.arange(-80, 81, 2.0), np.arange(-90, 91, 2.0), indexing="ij")
    scan = np.stack([x, y, z], axis=-1)
    for structure in [*muscles(posed), *cords(posed, Limb(posed))]:
        outside = np.ones(x.shape, dtype=bool)
        for box in structure.boxes:
            low, high = np.array([box.x, box.y, box.z]).T
            outside &= ~((scan >= low) & (scan <= high)).all(axis=-1)
        points = scan if structure.frame is None else structure.frame.into(scan)
        distance = structure.distance(torch.tensor(points, dtype=torch.float32).unbind(dim=-1)).expand(x.shape)
        assert (distance.numpy()[outside] > 0).all(), structure.name


def test_closed_tube_ends_in_tips_and_an_open_one_runs_on():
    knots = [(0, 0, 0, 10, 10), (100, 0, 0, 10, 10)]
    zero, near = torch.zeros(1), torch.tensor([1.0])
    closed, open_ = Tube(knots, closed=True), Tube(knots)
    assert float(closed(torch.tensor([3.0]), zero, near)) > 0
    assert float(closed(torch.tensor([3.0]), zero, torch.tensor([50.0]))) == pytest.approx(-7, abs=0.2)
    assert float(open_(torch.tensor([3.0]), zero, torch.tensor([-50.0]))) == pytest.approx(-7, abs=0.2)


def test_squircle_is_an_ellipse_at_squareness_0_and_fills_its_corners_above():
    """On the diagonal p = q the surface lies where 2 p^2 - s p^4 = 1: p is 0.707 at 0 and 0.765 at 0.5."""
    angle = torch.linspace(0, 6.28, 50)
    u, v = 30 * torch.cos(angle), 30 * torch.sin(angle)
    torch.testing.assert_close(squircle(u, v, 20.0, 12.0, 0.0), ellipse(u, v, 20.0, 12.0))
    corner = torch.tensor([np.sqrt((1 - np.sqrt(1 - 0.5)) / 0.5) * 10])
    assert float(corner) == pytest.approx(7.65, abs=0.01)
    assert float(squircle(corner, corner, 10.0, 10.0, 0.5)) == pytest.approx(0, abs=1e-3)
    assert float(squircle(torch.tensor([10.0]), torch.zeros(1), 10.0, 10.0, 0.5)) == pytest.approx(0, abs=1e-3)


def test_capsule_tapers_and_spreads():
    """From radius 3 to 1 over 10 mm: 2 in the middle; spread 4 along x: the surface there is 8 from the axis."""
    middle = (torch.tensor([2.0, 0.0, 8.0]), torch.tensor([0.0, 2.0, 0.0]), torch.full((3,), 5.0))
    round_ = capsule(*middle, (0, 0, 0), (0, 0, 10), (3.0, 1.0))
    torch.testing.assert_close(round_[:2], torch.zeros(2))
    band = capsule(*middle, (0, 0, 0), (0, 0, 10), (3.0, 1.0), (4.0, 1.0, 1.0))
    torch.testing.assert_close(band[1:], torch.zeros(2))


def test_noise_is_the_same_however_many_planes_are_asked_at_once():
    field = NoiseField(np.random.default_rng(3), (20, 32, 32), (3.0, 4.0, 4.0))
    whole = field.planes(0, 20)
    torch.testing.assert_close(torch.cat([field.planes(0, 7), field.planes(7, 13)]), whole)
    assert 0.4 < float(whole.std()) < 1.0
