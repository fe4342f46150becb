"""Stored values of DICOM films in the forms in which they occur, and those that would be misread."""

import gzip
import io
import re
import tarfile
import zlib

import fabricate_oai as oai
import gdcm
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, RLELossless

from bundle.transforms import LoadFilm, dicom_file
from bundle.transforms import archive as archive_module
from bundle.transforms.dicom_file import open_dicom
from bundle.transforms.dicom_pixels import coded_size

RAMP = np.linspace(0, 1, 40 * 30).reshape(40, 30)
STORED = np.round(RAMP * 4095)


def saved(tmp_path, edit=lambda dataset: None, **options):
    dataset = oai.film_dataset(RAMP, **options)
    edit(dataset)
    return oai.save(dataset, tmp_path / "001")


def pixels(path, **options):
    return LoadFilm(**options)(path).numpy()[0, :, :, 0]


def compressed(path, syntax):
    """The same film in another transfer syntax, by GDCM."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path


SYNTAXES = ["JPEGLosslessProcess14_1", "JPEGLosslessProcess14", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"]


@pytest.mark.parametrize("syntax", [*SYNTAXES, "ExplicitVRBigEndian", "ImplicitVRLittleEndian"])
def test_lossless_transfer_syntaxes_give_the_stored_values(tmp_path, syntax):
    np.testing.assert_array_equal(pixels(compressed(saved(tmp_path), syntax)), STORED)


def test_jpeg_of_12_bits_is_refused_by_name(tmp_path):
    """Only the frame header is made: marker, length, precision, rows, columns."""
    dataset = oai.film_dataset(RAMP)
    dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    frame = b"\xff\xd8\xff\xc1\x00\x0b\x0c" + bytes([0, 40, 0, 30, 1, 1, 0x11, 0]) + bytes(8) + b"\xff\xd9"
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(ValueError, match=r"JPEG of 12 bits \(process 4\), which is not read; convert"):
        pixels(oai.save(dataset, tmp_path / "001"))


def test_lossy_values_just_beyond_the_depth_are_cut_and_others_refused(tmp_path):
    """JPEG-LS near-lossless may overshoot; the header's depth is lowered to leave some values just above it."""

    def film(top):
        path = saved(tmp_path, lambda d: setattr(d, "PixelData", np.round(RAMP * top).astype("<u2").tobytes()), bits=16)
        dataset = pydicom.dcmread(compressed(path, "JPEGLSLossless"))
        dataset.file_meta.TransferSyntaxUID = JPEGLSNearLossless
        dataset.BitsStored, dataset.HighBit = 12, 11
        return oai.save(dataset, path)

    read = pixels(film(4098))
    np.testing.assert_array_equal(read, np.minimum(np.round(RAMP * 4098), 4095))
    with pytest.raises(ValueError, match="above the 12 bits"):
        pixels(film(8000))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_compressed_film_that_is_cut_short_is_refused(tmp_path, syntax):
    path = compressed(saved(tmp_path), syntax)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"film .*001: .*cut short"):
        LoadFilm()(path)


def coded(tmp_path, syntax, stream):
    """A film of 40 x 30 with 8 bits whose pixel data is a given stream."""
    dataset = oai.film_dataset(RAMP)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].is_undefined_length = True
    return oai.save(dataset, tmp_path / "001")


@pytest.mark.parametrize(("runs", "sound"), [(10, True), (9, False), (11, False), (1100, False)])
def test_rle_stream_that_decodes_to_another_size_is_refused_undecoded(tmp_path, runs, sound):
    """A run of two bytes decodes to 120; 40 x 30 pixels are ten. The last case is a bomb in small, without its data."""
    header = np.array([1, 64, *[0] * 14], "<u4").tobytes()
    film = coded(tmp_path, RLELossless, header + bytes([1, 0, 255, 257 - 118, 7]) + bytes([257 - 120, 9]) * (runs - 1))
    if sound:
        assert pixels(film).ravel()[:3].tolist() == [0, 255, 7]
        return
    with pytest.raises(ValueError, match="the RLE stream is damaged or cut short, or holds another size than 40 x 30"):
        pixels(film)


def jpeg(pixels, **options):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", **options)
    return content.getvalue()


def test_jpeg_stream_in_colour_under_a_grey_header_is_refused(tmp_path):
    """The decoder's three values a pixel would be read as three pixels."""
    grey = (RAMP * 255).astype(np.uint8)
    assert pixels(coded(tmp_path, JPEGBaseline8Bit, jpeg(grey))).shape == (40, 30)
    with pytest.raises(ValueError, match="the JPEG stream has 3 colours, the header says that it is grey"):
        pixels(coded(tmp_path, JPEGBaseline8Bit, jpeg(np.repeat(grey[..., None], 3, 2))))


def test_jpeg_that_repeats_its_scans_is_refused(tmp_path):
    """A thousand scans of a progressive JPEG take a thousand times as long, whatever the size of the file."""
    stream = jpeg((RAMP * 255).astype(np.uint8), progressive=True)
    last = stream.rindex(b"\xff\xda")
    stream = stream[:last] + stream[last:-2] * 1000 + b"\xff\xd9"
    with pytest.raises(ValueError, match=r"its JPEG stream has 10\d\d scans; expected at most 64"):
        pixels(coded(tmp_path, JPEGBaseline8Bit, stream))
    (tmp_path / "film.jpg").write_bytes(stream)
    with pytest.raises(ValueError, match=r"film\.jpg: its JPEG stream has 10\d\d scans"):
        pixels(tmp_path / "film.jpg", spacing_mm=0.2)


def test_malformed_values_and_decoders_that_give_up_are_not_told_twice(tmp_path, caplog, recwarn):
    """Its library warns and logs, with traces of the decoders; what stops the reading is one error."""
    path = saved(tmp_path)
    path.write_bytes(re.sub(rb"(?<=\x08\x00\x18\x00UI..)1\.2\.8", b"no UI", path.read_bytes()))
    (tmp_path / "b").mkdir()
    broken = compressed(saved(tmp_path / "b"), "JPEG2000Lossless")
    broken.write_bytes(broken.read_bytes().replace(b"\xff\x52\x00", b"\xff\x30\x00", 1))  # its coding style is gone
    recwarn.clear()
    pixels(path)
    with pytest.raises(ValueError, match="cannot be decoded"):
        pixels(broken)
    assert not caplog.records
    assert not recwarn.list


@pytest.mark.parametrize("syntax", [syntax for syntax in SYNTAXES if syntax != "RLELossless"])
def test_stream_without_its_end_is_refused(tmp_path, syntax):
    """The file is whole, the stream in it is not: decoders fill up what is missing and say nothing."""
    path = compressed(saved(tmp_path), syntax)
    content = path.read_bytes()
    end = content.rindex(b"\xff\xd9")
    path.write_bytes(content[: end - 40] + bytes(42) + content[end + 2 :])
    with pytest.raises(ValueError, match="stream is cut short"):
        LoadFilm()(path)


@pytest.mark.parametrize("syntax", [syntax for syntax in SYNTAXES if syntax != "RLELossless"])
def test_stream_that_holds_another_size_than_the_header_is_refused_unread(tmp_path, syntax):
    """A decoder would take memory for what the stream claims: here 60000 x 60000, in a header of 40 x 30."""
    path = compressed(saved(tmp_path), syntax)
    data = bytes(open_dicom(path, what="film").PixelData)
    assert coded_size(data) == (40, 30)
    old, new = ((40, 30), (60000, 60000))
    kind = ">II" if "2000" in syntax else ">HH"
    swap = [np.array(pair, kind[:2].replace("I", "u4").replace("H", "u2")) for pair in (old[::-1], new[::-1])]
    if "2000" not in syntax:
        swap = [pair[::-1] for pair in swap]
    content = path.read_bytes()
    assert swap[0].tobytes() in content
    path.write_bytes(content.replace(swap[0].tobytes(), swap[1].tobytes(), 1))
    with pytest.raises(ValueError, match="stream holds 60000 x 60000 pixels, the header says 40 x 30"):
        LoadFilm()(path)


def test_transfer_syntax_of_a_video_is_named(tmp_path):
    content = saved(tmp_path).read_bytes()
    video = content.replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.4.100\x00"[:20])
    (tmp_path / "001").write_bytes(video)
    with pytest.raises(ValueError, match="transfer syntax"):
        LoadFilm()(tmp_path / "001")


def deflated(content, inflated=None):
    """A film's file with its data set deflated; `inflated` replaces the data set."""
    start = 132 + 12 + int.from_bytes(content[140:144], "little")
    meta = content[132 + 12 : start].replace(b"\x14\x001.2.840.10008.1.2.1\x00", b"\x16\x001.2.840.10008.1.2.1.99")
    pack = zlib.compressobj(wbits=-15)
    data = pack.compress(content[start:] if inflated is None else inflated) + pack.flush()
    return content[:140] + len(meta).to_bytes(4, "little") + meta + data


def test_deflated_film_is_read_and_its_bomb_is_not(tmp_path):
    path = saved(tmp_path)
    content = path.read_bytes()
    path.write_bytes(deflated(content))
    np.testing.assert_array_equal(pixels(path), STORED)
    path.write_bytes(deflated(content)[:-200])
    with pytest.raises(ValueError, match="film "):
        LoadFilm()(path)
    path.write_bytes(deflated(content, bytes(300 * 2**20)))
    assert path.stat().st_size < 2**20
    with pytest.raises(ValueError, match="inflates to more than 256 MiB"):
        LoadFilm()(path)


@pytest.mark.parametrize("extended", [True, False])
def test_signed_values_keep_their_sign_with_and_without_sign_extension(tmp_path, extended):
    values = np.round(RAMP * 4000).astype(np.int16) - 2000

    def signed(dataset):
        dataset.PixelRepresentation = 1
        dataset.PixelData = (values if extended else values & 0xFFF).astype("<i2").tobytes()

    np.testing.assert_array_equal(pixels(saved(tmp_path, signed)), values)


def test_monochrome1_of_signed_values_is_turned_about_minus_a_half(tmp_path):
    """-2048...2047 become 2047...-2048: the range stays, its ends change places."""
    values = np.round(RAMP * 4095).astype(np.int16) - 2048

    def signed(dataset):
        dataset.PixelRepresentation, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
        dataset.PixelData = values.astype("<i2").tobytes()

    np.testing.assert_array_equal(pixels(saved(tmp_path, signed)), -1.0 - values)


def test_overlay_bits_are_masked_and_values_beyond_the_depth_refused(tmp_path):
    def high_bits(dataset):
        dataset.PixelData = (STORED.astype("<u2") | 0x8000).tobytes()

    def overlay(dataset):
        high_bits(dataset)
        dataset.add_new((0x6000, 0x0100), "US", 16)
        dataset.add_new((0x6000, 0x0102), "US", 15)

    np.testing.assert_array_equal(pixels(saved(tmp_path / "a", overlay)), STORED)
    with pytest.raises(ValueError, match="above the 12 bits stored"):
        LoadFilm()(saved(tmp_path / "b", high_bits))


def test_windows_and_value_of_interest_tables_change_nothing(tmp_path):
    def voi(dataset):
        dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = "500", "100", "SIGMOID"
        table = Dataset()
        table.LUTDescriptor, table.LUTData = [4096, 0, 16], list(range(4095, -1, -1))
        table["LUTDescriptor"].VR = "US"
        table["LUTData"].VR = "US"
        dataset.VOILUTSequence = [table]

    np.testing.assert_array_equal(pixels(saved(tmp_path, voi)), STORED)


def test_modality_table_is_applied(tmp_path):
    def table(dataset):
        item = Dataset()
        item.LUTDescriptor, item.LUTData, item.ModalityLUTType = [4096, 0, 16], [7 * n for n in range(4096)], "US"
        item["LUTDescriptor"].VR = "US"
        item["LUTData"].VR = "US"
        dataset.ModalityLUTSequence = [item]

    np.testing.assert_array_equal(pixels(saved(tmp_path, table)), 7 * STORED)


@pytest.mark.parametrize("sign", [1, -1])
def test_raw_detector_signal_becomes_density(tmp_path, sign):
    """Half the beam is a density of log 2, whichever way the detector counts."""
    beam = np.repeat([[4095, 2047, 1023, 0]], 40, axis=0).repeat(8, axis=1)

    def raw(dataset):
        dataset.Rows, dataset.Columns = beam.shape
        dataset.PresentationIntentType = "FOR PROCESSING"
        dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LIN", sign
        dataset.PixelData = (beam if sign > 0 else 4095 - beam).astype("<u2").tobytes()

    density = pixels(saved(tmp_path, raw))[0, ::8]
    np.testing.assert_allclose(density, np.log([1, 2, 4, 4096]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: setattr(d, "PixelData", d.PixelData + bytes(60)), "has 2460 bytes, expected 2400"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:-2]), "cut short"),
        (lambda d: setattr(d, "PixelData", b""), "has no pixel data"),
        (lambda d: setattr(d, "HighBit", 15), "high bit 15 of 12"),
        (lambda d: setattr(d, "RescaleSlope", "0"), "rescale slope is 0"),
        (lambda d: d.add_new("RescaleSlope", "LO", "much"), "RescaleSlope is not a number"),
        (lambda d: d.add_new("Rows", "LO", "forty"), "Rows is not a number"),
        (lambda d: setattr(d, "SamplesPerPixel", 3), "must be grey"),
        (lambda d: setattr(d, "PhotometricInterpretation", "PALETTE COLOR"), "PALETTE COLOR"),
        (lambda d: setattr(d, "BitsAllocated", 64), "64 allocated"),
        (lambda d: setattr(d, "Rows", 0), "0 x 30"),
        (lambda d: setattr(d, "ImagerPixelSpacing", [-0.4, -0.4]), "--spacing MM"),
        (lambda d: d.add_new("ImagerPixelSpacing", "DS", "nan\\nan"), "--spacing MM"),
        (lambda d: d.add_new("ImagerPixelSpacing", "LO", "unknown"), "--spacing MM"),
        (lambda d: setattr(d, "ImagerPixelSpacing", [0.4, 400]), "--spacing MM"),
        (lambda d: setattr(d, "BodyPartExamined", "TSPINE"), "shows TSPINE"),
        (lambda d: setattr(d, "SeriesDescription", "Knee notch view"), "notch view"),
    ],
)
def test_faults_are_refused_with_the_reason(tmp_path, edit, message):
    path = saved(tmp_path, edit)
    with pytest.raises(ValueError, match=message) as error:
        LoadFilm()(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("value", ["0.4\\0.4", "0.4", "[0.4, 0.4]", "0.4 0.4"])
def test_spacing_as_text_is_read(tmp_path, value):
    film = LoadFilm()(saved(tmp_path, lambda d: d.add_new("ImagerPixelSpacing", "LO", value)))
    assert float(film.affine[:3, 0].norm()) == pytest.approx(0.4)


@pytest.mark.parametrize("part", ["RODILLA", "KNIE", "UNKNOWN", "LOWER EXTREMITIES"])
def test_part_of_another_language_is_left_to_the_knee_finder(tmp_path, part):
    assert pixels(saved(tmp_path, lambda d: setattr(d, "BodyPartExamined", part))).max() == 4095


@pytest.mark.parametrize("charset", ["ISO_2022_IR_6", "no such thing", "ISO_IR 192\\nonsense"])
def test_unknown_character_set_changes_no_pixel(tmp_path, charset):
    path = saved(tmp_path, lambda d: setattr(d, "SpecificCharacterSet", charset))
    np.testing.assert_array_equal(pixels(path), STORED)


def test_header_without_end_and_nested_without_end_are_refused(tmp_path):
    content = saved(tmp_path).read_bytes()
    start = 132 + 12 + int.from_bytes(content[140:144], "little")
    many = b"".join(b"\x09\x00" + n.to_bytes(2, "little") + b"UN" + bytes(6) for n in range(0x1000, 0xFFFF))
    path = tmp_path / "many"
    path.write_bytes(content[:start] + b"\x08\x00\x60\x00CS\x02\x00DX" + many)
    with pytest.raises(ValueError, match="more than 20000 entries"):
        LoadFilm()(path)
    sequence = b"\x08\x00\x20\x22SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(content[:start] + sequence * 20_000)
    with pytest.raises(ValueError, match="film "):
        LoadFilm()(path)


ITEM = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"


def _behind_the_meta_group(content, entry):
    start = 132 + 12 + int.from_bytes(content[140:144], "little")
    return content[:start] + b"\x08\x00\x60\x00CS\x02\x00DX" + entry + content[start:]


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        (b"\x08\x00\x15\x11", "header goes on for ever"),  # not wanted, and read by pydicom all the same
        (b"\x08\x00\x20\x22", "header goes on for ever"),
    ],
)
def test_sequence_of_countless_items_is_given_up(tmp_path, monkeypatch, tag, message):
    """4 MB of empty items; 30 MB took pydicom more than 90 seconds and 0.9 GB."""
    monkeypatch.setattr(dicom_file, "MAX_READS", 20_000)
    path = saved(tmp_path)
    endless = tag + b"SQ\x00\x00\xff\xff\xff\xff" + ITEM * 500_000 + b"\xfe\xff\xdd\xe0" + bytes(4)
    path.write_bytes(_behind_the_meta_group(path.read_bytes(), endless))
    with pytest.raises(ValueError, match=message):
        LoadFilm()(path)


def test_long_sequence_of_codes_is_refused_unread(tmp_path):
    path = saved(tmp_path)
    entry = b"\x08\x00\x18\x22SQ\x00\x00" + (8 * 500_000).to_bytes(4, "little") + ITEM * 500_000
    path.write_bytes(_behind_the_meta_group(path.read_bytes(), entry))
    with pytest.raises(ValueError, match="a sequence of 4000000 bytes; expected at most 262144"):
        LoadFilm()(path)


@pytest.mark.parametrize(("vr", "value"), [("SS", -2000), ("US", 63536)])
def test_padding_of_signed_pixels_is_known_however_it_is_written(tmp_path, vr, value):
    """-2000 in a field of unsigned numbers is 63536."""
    values = np.round(RAMP * 3000).astype(np.int16) - 1000
    values[:, :5] = -2000

    def signed(dataset):
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 1, 16, 15
        dataset.PixelData = values.astype("<i2").tobytes()
        dataset.add_new("PixelPaddingValue", vr, value)

    read = pixels(saved(tmp_path, signed))
    assert (read[:, :5] == values[:, 5:].min()).all()
    np.testing.assert_array_equal(read[:, 5:], values[:, 5:])


def test_names_and_dates_are_not_even_read(tmp_path):
    def personal(dataset):
        dataset.PatientName, dataset.StudyDate, dataset.InstitutionName = "Doe^Jane", "20050131", "Somewhere"

    header = str(open_dicom(saved(tmp_path, personal), what="film"))
    assert "KNEE" in header
    assert not any(word in header for word in ("Doe", "20050131", "Somewhere"))


def packed(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = member.size or len(content)
            archive.addfile(member, io.BytesIO(content + bytes(max(0, member.size - len(content)))))
    return path


def test_film_in_an_archive_is_read_without_unpacking(tmp_path):
    content = saved(tmp_path).read_bytes()
    before = set(tmp_path.iterdir())
    path = packed(tmp_path / "1.tar.gz", [("./001", content), ("./thumb.jpg", b"x")])
    np.testing.assert_array_equal(pixels(path), STORED)
    assert set(tmp_path.iterdir()) == before | {path}
    packed(path, [("./001", content), ("./002", content)])
    with pytest.raises(ValueError, match="the archive has 2 files; expected one film"):
        LoadFilm()(path)


def _special(kind, **fields):
    member = tarfile.TarInfo("./002")
    member.type = kind
    for name, value in fields.items():
        setattr(member, name, value)
    return member


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("../../etc/passwd", "points out of the archive"),
        ("/etc/passwd", "points out of the archive"),
        (r"..\..\evil", "points out of the archive"),
        (_special(tarfile.SYMTYPE, linkname="/etc/passwd"), "link or device"),
        (_special(tarfile.LNKTYPE, linkname="./001"), "link or device"),
        (_special(tarfile.FIFOTYPE), "link or device"),
    ],
)
def test_hostile_members_are_refused(tmp_path, member, message):
    path = packed(tmp_path / "1.tar.gz", [(member, b"")])
    with pytest.raises(ValueError, match=message):
        LoadFilm()(path)


def extended(entries, content):
    """A member with an extended header in front of it, without the archive's end."""
    record = b"".join(b"%d %s\n" % (len(entry) + 4, entry) for entry in entries)
    parts = []
    for kind, data in ((tarfile.XHDTYPE, record), (tarfile.REGTYPE, content)):
        member = tarfile.TarInfo("001")
        member.type, member.size = kind, len(data)
        parts.append(member.tobuf() + data + bytes(-len(data) % 512))
    return b"".join(parts)


END = bytes(1024)
FILE = extended([], b"something")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FILE + b"x" * 512 + FILE + END, "damaged or cut short"),
        (FILE + END + FILE + END, "something follows its end"),
        (FILE, "it has no end"),
        (extended([b"GNU.sparse.major=1"], b"1\n0\n512\n") + END, "a file with holes"),
        (extended([b"path=../evil"], b"") + END, "points out of the archive"),
        (extended([b"size=99999999999"], b"") + END, "a member has 99999999999 bytes"),
        (extended([b"size=many"], b"") + END, "an extended header cannot be read"),
        (extended([b"comment=" + b"1" * 70_000], b"") + END, "has a header of 7"),
        (extended([b"1" * 999], b"") + END, "an extended header cannot be read"),
    ],
)
def test_archive_that_tarfile_would_shorten_or_blow_up_is_refused(tmp_path, content, message):
    """It ends at a damaged header without a word, fills holes with zeros, and parses headers of any size."""
    (tmp_path / "1.tar.gz").write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=message):
        LoadFilm()(tmp_path / "1.tar.gz")


def test_long_names_in_either_form_are_read(tmp_path):
    content = saved(tmp_path).read_bytes()
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        member = tarfile.TarInfo("./" + "long/" * 40 + "ä001")
        member.size = len(content)
        with tarfile.open(tmp_path / "1.tar.gz", "w:gz", format=form) as archive:
            archive.addfile(member, io.BytesIO(content))
        np.testing.assert_array_equal(pixels(tmp_path / "1.tar.gz"), STORED)


def test_series_of_a_thousand_files_with_extended_headers_is_no_bomb(tmp_path):
    """Each file counts twice; an archive of headers without end is refused."""
    file = extended([b"mtime=1.5"], b"slice")
    (tmp_path / "1.tar").write_bytes(file * 1000 + END)
    assert sum(1 for _ in archive_module.members(tmp_path / "1.tar", what="series")) == 1000
    (tmp_path / "1.tar").write_bytes(file * 3000 + END)
    with pytest.raises(ValueError, match="more than 4096 members"):
        list(archive_module.members(tmp_path / "1.tar", what="series"))


def test_bombs_are_refused_before_they_take_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_module, "MAX_MEMBER", 10_000)
    with pytest.raises(ValueError, match="expected at most"):
        LoadFilm()(packed(tmp_path / "a.tar.gz", [("./001", bytes(20_000))]))
    monkeypatch.setattr(archive_module, "MAX_UNPACKED", 100_000)
    many = [(f"./{n:03d}", bytes(9_000)) for n in range(40)]
    with pytest.raises(ValueError, match="unpacks to more than"):
        LoadFilm()(packed(tmp_path / "b.tar.gz", many))


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.99])
def test_truncated_and_corrupt_archives_are_refused(tmp_path, keep):
    noise = np.random.default_rng(0).integers(0, 256, 20_000, np.uint8).tobytes()
    path = packed(tmp_path / "1.tar.gz", [("./001", saved(tmp_path).read_bytes() + noise)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ValueError, match="damaged or cut short"):
        LoadFilm()(path)
    for content in (b"not gzip", gzip.compress(b"not tar" * 1000), whole[:400] + b"\0" * 50 + whole[450:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or cut short"):
            LoadFilm()(path)
