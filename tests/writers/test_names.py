"""No two films of a run write to one name."""

import pytest

from bundle.writers import stem_of, unique_stems


@pytest.mark.parametrize(
    ("films", "stems"),
    [
        (["a/x.dcm", "b/y.png"], ["x", "y"]),
        (["a/001", "b/001", "b/film.nii.gz"], ["a_001", "b_001", "film"]),
        (["p/a/001", "p/b/001", "q/a/001"], ["p_a_001", "p_b_001", "q_a_001"]),
        (["a/x.dcm", "a/x.png"], ["x_dcm", "x_png"]),
        (["a/x.dcm", "a/x.png", "b/x.png"], ["x_dcm", "x_png", "x"]),
        (["a/001", "b/001", "c/a_001"], ["z_a_001", "z_b_001", "z_c_a_001"]),
    ],
)
def test_films_that_share_a_stem_get_their_folders_names(films, stems, tmp_path):
    assert unique_stems([tmp_path / "z" / film for film in films]) == stems


def test_a_file_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="comes twice"):
        unique_stems([tmp_path / "x.png", tmp_path / "x.png"])


def test_stem_is_the_name_without_the_ending_of_an_image():
    assert [stem_of(name) for name in ("a.NII.GZ", "1.2.840.7", "b.dcm", "c.tar.gz")] == ["a", "1.2.840.7", "b", "c"]
