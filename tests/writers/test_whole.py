"""Files are complete or absent."""

import pytest

from bundle.writers import whole


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "volume.nii.gz"
    with whole(path) as temporary:
        temporary.write_text("old")

    def fail():
        with whole(path) as unfinished:
            unfinished.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert temporary.name.endswith(".nii.gz")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
