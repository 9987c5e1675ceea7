import os
import struct
import warnings
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import leftout as lo
from leftout.core.errors import DataError, MemoryBudgetError, OptionError
from leftout.data import images as module
from leftout.data.images import decode_picture
from leftout.data.load import load
from leftout.data.picture_form import PictureForm
from problems.data_files import picture, pictures, write_folder, write_zip


def encoded(arrays, prefix=""):
    return {prefix + path: picture(array) for path, array in arrays.items()}


def refused(source, match, error=DataError, **options) -> None:
    with pytest.raises(error, match=match):
        load(source, **options)


@pytest.mark.parametrize("prefix", ["", "animals/"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_pictures_come_back_by_split_and_class(tmp_path, prefix, packed, shape) -> None:
    arrays = pictures(shape)
    source = tmp_path / ("data.zip" if packed else "data")
    (write_zip if packed else write_folder)(source, encoded(arrays, prefix))
    train, query = load(source, normalise=None)
    for part, split in ((train, "train"), (query, "test")):
        paths = sorted(path for path in arrays if path.startswith(split))
        assert list(part.ids) == [prefix + path for path in paths]
        assert np.array_equal(part.images, np.stack([arrays[path] for path in paths]))
        expected = part.images if len(shape) == 2 else part.images.transpose(0, 3, 1, 2)
        assert np.array_equal(part.inputs.numpy(), expected / 255)
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize("prefix", ["", "animals/"])
def test_a_folder_without_splits_is_split_by_seed(tmp_path, prefix) -> None:
    arrays = {path.split("/", 1)[1]: value for path, value in pictures(each=8).items()}
    write_folder(tmp_path / "data", encoded(arrays, prefix))
    train, query = load(tmp_path / "data", seed=5)
    again, _ = load(tmp_path / "data", seed=5)
    assert train.preparation["split"] == "by seed"
    assert sorted(train.ids + query.ids) == sorted(prefix + path for path in arrays)
    assert np.bincount(query.labels.numpy()).tolist() == [2, 2]
    assert train.fingerprint == again.fingerprint


def test_only_chosen_pictures_are_decoded(tmp_path, monkeypatch) -> None:
    seen = []
    whole = module.decode_picture
    monkeypatch.setattr(
        module, "decode_picture", lambda data, name, *form: seen.append(name) or whole(data, name)
    )
    write_zip(tmp_path / "data.zip", encoded(pictures(each=20)))
    train, query = load(tmp_path / "data.zip", n_train=6, n_query=4)
    assert seen == [*train.ids, *query.ids]


def test_class_folders_that_are_numbers_are_in_the_order_of_the_numbers(tmp_path) -> None:
    files = {
        f"{label}/{number}.png": picture(np.full((2, 2), label + 1, np.uint8))
        for label in (10, 9, 2)
        for number in range(4)
    }
    write_folder(tmp_path / "data", files)
    train, _ = load(tmp_path / "data")
    assert train.classes == ("2", "9", "10")
    assert train.labels.tolist() == [train.classes.index(id.split("/")[0]) for id in train.ids]


def test_other_and_hidden_files_are_passed_over_and_counted(tmp_path) -> None:
    extra = {"readme.txt": b"x", "__MACOSX/train/cat/0.png": b"x", "train/cat/.hidden.png": b"x"}
    write_zip(tmp_path / "data.zip", encoded(pictures()) | extra)
    assert load(tmp_path / "data.zip")[0].preparation["ignored_files"] == 3
    del extra["__MACOSX/train/cat/0.png"]
    write_folder(tmp_path / "data", encoded(pictures()) | extra)
    assert load(tmp_path / "data")[0].preparation["ignored_files"] == 2


def test_the_unused_split_is_on_record(tmp_path) -> None:
    files = encoded(pictures())
    files |= {path.replace("test", "val"): content for path, content in files.items()}
    write_folder(tmp_path / "data", files)
    train, query = load(tmp_path / "data")
    assert train.preparation["unused_splits"] == ["val"]
    assert query.ids[0] == "test/cat/0.png"


def test_grey_among_coloured_pictures_becomes_coloured(tmp_path) -> None:
    files = encoded(pictures())
    files["train/dog/0.png"] = picture(np.arange(20, dtype=np.uint8).reshape(4, 5))
    write_folder(tmp_path / "data", files)
    train, _ = load(tmp_path / "data", normalise=None)
    row = train.ids.index("train/dog/0.png")
    assert np.array_equal(train.images[row], np.arange(20).reshape(4, 5, 1).repeat(3, 2))


@pytest.mark.parametrize("packed", [False, True])
def test_two_sizes_are_refused_with_both_names(tmp_path, packed) -> None:
    files = encoded(pictures())
    files["train/dog/2.png"] = picture(np.ones((5, 4, 3), np.uint8))
    source = tmp_path / ("data.zip" if packed else "data")
    (write_zip if packed else write_folder)(source, files)
    refused(source, r"`train/dog/2.png` must .* 4 × 5 pixels, 'train/cat/0.png' is 5 × 4\.")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM"])
def test_a_truncated_picture_is_named(kind) -> None:
    random = np.random.default_rng(0)
    content = picture(random.integers(0, 256, (16, 16, 3), dtype=np.uint8), kind)
    assert decode_picture(content, "a").shape == (16, 16, 3)
    with pytest.raises(DataError, match=r"`a` cannot be decoded as a picture: .* Repair or remove"):
        decode_picture(content[: len(content) // 2], "a")


def test_a_file_that_is_no_picture_is_named(tmp_path) -> None:
    write_folder(tmp_path / "data", encoded(pictures()) | {"train/cat/0.png": b"not a picture"})
    refused(tmp_path / "data", "`train/cat/0.png` cannot be decoded as a picture")


@pytest.mark.parametrize("kind", ["EPS", "TIFF", "TGA"])
def test_formats_that_are_not_listed_are_refused(kind) -> None:
    with pytest.raises(DataError, match="`a` cannot be decoded as a picture: UnidentifiedImageErr"):
        decode_picture(picture(np.ones((4, 4, 3), np.uint8), kind), "a")


def test_what_the_decoder_warns_about_is_an_error_and_no_warning_leaks() -> None:
    header = bytearray(picture(np.ones((4, 4), np.uint8)))
    header[16:24] = (10_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        with pytest.raises(DataError, match=r"DecompressionBombWarning: Image size .100000000"):
            decode_picture(bytes(header), "a")
    assert not leaked


def saved(image, kind="PNG", **options):
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def deep_png(pixels, colour=0):
    """Return a PNG of 16 bits a channel, byte by byte; `colour` is its type."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    lines = b"".join(b"\0" + np.asarray(line).astype(">u2").tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", len(pixels[0]), len(pixels), 16, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def deep_folder(folder):
    """Write grey pictures of 16 bits, and return them by name."""
    pictures = {}
    for number in range(20):
        path = folder / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures[f"{path.parent.name}/{path.name}"] = np.random.default_rng(number).integers(0, 65536, (4, 5))
        path.write_bytes(deep_png(pictures[f"{path.parent.name}/{path.name}"]))
    return pictures


def test_grey_pictures_of_16_bits_are_their_share_of_white_to_the_last_bit(tmp_path) -> None:
    pictures = deep_folder(tmp_path / "deep")
    train, query = lo.load(tmp_path / "deep", n_query=4, normalise=None)
    for examples in (train, query):
        for row, name in enumerate(examples.ids):
            assert np.array_equal(examples.inputs[row].numpy(), pictures[name] / 65535)
            assert np.array_equal(examples.images[row], np.rint(pictures[name] / 257))
        assert examples.images.dtype == np.uint8
        assert examples.preparation["white"] == 65535


def test_pictures_of_16_bits_are_brought_to_a_size_in_16_bits(tmp_path) -> None:
    pictures = deep_folder(tmp_path / "deep")
    train, _ = lo.load(tmp_path / "deep", n_query=4, normalise=None, resize=1)
    # The whole is one pixel: a weighted mean, on the grid of 16 bits, which that of 8 bits is not.
    inputs = 65535 * train.inputs[:, 0, 0].numpy()
    assert np.abs(inputs - np.rint(inputs)).max() < 1e-9
    assert (np.abs(inputs / 257 - np.rint(inputs / 257)) > 1e-3).any()
    spans = np.array([[pictures[name].min(), pictures[name].max()] for name in train.ids])
    assert ((inputs >= spans[:, 0]) & (inputs <= spans[:, 1])).all()


def test_pictures_of_two_depths_are_refused(tmp_path) -> None:
    deep_folder(tmp_path / "deep")
    (tmp_path / "deep/b/19.png").write_bytes(saved(Image.new("L", (5, 4))))
    with pytest.raises(DataError, match=r"`\w/\d+.png` must have as many bits a pixel as the others: it has"):
        lo.load(tmp_path / "deep", n_query=4)


def test_what_would_lose_information_is_refused() -> None:
    clear = Image.new("RGBA", (4, 4), (1, 2, 3, 254))
    with pytest.raises(DataError, match="`a` must be opaque; it has transparent pixels"):
        decode_picture(saved(clear), "a")
    deep = "`a` must have 8 bits a channel, or be a grey PNG of 16; "
    for colour, channels in ((2, 3), (4, 2), (6, 4)):
        with pytest.raises(
            DataError, match=deep + "it has 16, and mode 'RGBA?'. Convert it, or pass the numbers"
        ):
            decode_picture(deep_png(np.full((3, 3, channels), 1000), colour), "a")
    for head in (b"P5 2 1 65535\n", b"P5 2 1 4095\n", b"P6 2 1 65535\n", b"P6 2 1 256\n"):
        with pytest.raises(DataError, match=deep + r"(it has 16|its mode is 'I')"):
            decode_picture(head + bytes(12 if head[1:2] == b"6" else 4), "a")
    assert decode_picture(b"P6 2 1 255\n" + bytes(range(6)), "a").tolist() == [[[0, 1, 2], [3, 4, 5]]]
    frames = [Image.new("L", (4, 4), value) for value in (0, 99)]
    moving = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="`a` must be one picture; it is animated, 2 frames"):
        decode_picture(moving, "a")


def test_opaque_pictures_of_every_mode_are_read() -> None:
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
    image = Image.fromarray(grey)
    assert np.array_equal(decode_picture(saved(image), "a"), grey)
    assert np.array_equal(decode_picture(saved(image.convert("LA")), "a"), grey)
    assert np.array_equal(decode_picture(saved(image.convert("RGBA")), "a"), grey[..., None].repeat(3, 2))
    assert np.array_equal(decode_picture(saved(image.convert("1", dither=0)), "a"), grey * 0)
    palette = Image.new("RGB", (4, 4), (9, 8, 7)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert decode_picture(saved(palette), "a")[0, 0].tolist() == [9, 8, 7]


def test_a_picture_that_says_it_is_enormous_is_refused_by_its_size() -> None:
    image = saved(Image.new("L", (5000, 5000)))
    with pytest.raises(DataError, match="at most 16777216 pixels; it says 5000 × 5000"):
        decode_picture(image, "a")
    header = bytearray(image)
    header[16:24] = b"\x00\x01\x00\x00" * 2
    with pytest.raises(DataError, match="`a` cannot be decoded as a picture"):
        decode_picture(bytes(header), "a")


def test_a_member_that_says_it_is_enormous_is_refused_by_its_size(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "LARGEST_FILE", 100)
    bomb = {"train/cat/0.png": b"\0" * 101}
    write_zip(tmp_path / "data.zip", encoded(pictures((1, 1))) | bomb)
    refused(tmp_path / "data.zip", "`train/cat/0.png` in .* at most 100 B unpacked; it says 101 B")
    write_folder(tmp_path / "data", encoded(pictures((1, 1))) | bomb)
    refused(tmp_path / "data", "must be at most 100 B; it is 101 B")


def test_more_pictures_than_memory_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("leftout.data.files.memory_budget", lambda _: 5000)
    write_zip(tmp_path / "data.zip", encoded(pictures()))
    refused(tmp_path / "data.zip", "16 pictures needs 8.64 kB, more than", MemoryBudgetError)


@pytest.mark.parametrize(
    ("paths", "match"),
    [
        (["train/cat/0.png", "test/0.png"], r"at one depth, .* 'test/0.png' and 'train/cat/0.png'"),
        (["0.png", "1.png"], r"at most one folder around them; got '0.png', where the class is"),
        (["train/0.png", "test/1.png"], "where the class is missing or a folder too many"),
        (["a/b/c/0.png", "a/c/c/0.png", "b/c/c/0.png"], "or a folder too many"),
        (["train/cat/0.png", "extra/cat/0.png"], "must name its splits .* got 'extra'"),
        (["train/cat/0.png"], "must have a split 'train' and one of"),
        (["cat/0.txt"], "must hold pictures .* there is none"),
        (["train/cat/0.png", "test/cow/0.png"], "query test/cow/0.png is of class 'cow'"),
    ],
)
def test_odd_layouts_are_refused(tmp_path, paths, match) -> None:
    files = {path: picture(np.ones((2, 2), np.uint8)) for path in paths}
    write_folder(tmp_path / "data", files)
    refused(tmp_path / "data", match)


def test_the_only_class_folder_is_no_folder_around_it(tmp_path) -> None:
    files = {f"cat/{number}.png": picture(np.ones((2, 2), np.uint8)) for number in range(9)}
    write_folder(tmp_path / "data", files)
    refused(tmp_path / "data", "must hold at least two classes; got only 'cat'")


def test_an_archive_that_is_none_or_damaged_is_refused(tmp_path) -> None:
    path = tmp_path / "data.zip"
    refused(path, "must be a file; there is none of this name")
    path.write_bytes(b"PK nonsense")
    refused(path, "must be a whole zip archive; got BadZipFile: File is not a zip file")
    write_zip(path, encoded(pictures()))
    content = bytearray(path.read_bytes())
    content[60] ^= 1  # inside the first picture
    path.write_bytes(bytes(content))
    refused(path, "`train/cat/0.png` in .* cannot be read: .* Fetch or pack the archive again")


def test_a_damaged_name_is_not_passed_over(tmp_path) -> None:
    path = tmp_path / "data.zip"
    write_zip(path, encoded(pictures()))
    content = path.read_bytes()
    place = content.rindex(b"train/cat/3.png")  # in the directory, not at the member
    path.write_bytes(content[:place] + b"train/cat/3.pnx" + content[place + 15 :])
    refused(path, "`train/cat/3.pnx` in .* cannot be read")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_in_an_archive_is_refused(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for _ in range(2):
            archive.writestr("cat/0.png", b"x")
    refused(tmp_path / "data.zip", "must hold each name once; 'cat/0.png' is there 2 times")


def test_a_device_among_the_pictures_is_refused(tmp_path) -> None:
    write_folder(tmp_path / "data", encoded(pictures()))
    (tmp_path / "data/train/cat/0.png").unlink()
    (tmp_path / "data/train/cat/0.png").symlink_to("/dev/zero")
    refused(tmp_path / "data", "must be an ordinary file; it is a folder, a device or a pipe")


def test_links_to_folders_are_followed_and_circles_refused(tmp_path) -> None:
    write_folder(tmp_path / "data", encoded(pictures()))
    (tmp_path / "data/train/dog").rename(tmp_path / "elsewhere")
    (tmp_path / "data/train/dog").symlink_to(tmp_path / "elsewhere")
    assert len(load(tmp_path / "data")[0]) == 8
    (tmp_path / "data/train/cow").symlink_to(tmp_path / "data")
    refused(tmp_path / "data", r"must be reached once; a link leads into .*data again")


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path, monkeypatch) -> None:
    write_folder(tmp_path / "data", encoded(pictures()))
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    refused(tmp_path / "data", r"dog` must be readable; got Permission denied")


def test_a_file_name_that_is_no_text_is_refused(tmp_path) -> None:
    write_folder(tmp_path / "data", encoded(pictures()))
    name = os.fsencode(tmp_path / "data/train/cat/") + b"\xff.png"
    Path(os.fsdecode(name)).write_bytes(picture(np.ones((2, 2), np.uint8)))
    refused(tmp_path / "data", r"udcff.png'` must have a name in UTF-8\. Rename the file")


# One size, and what stands behind transparent pixels


def half(colours, height, width):
    """Return a picture whose left half has one colour and whose right half another."""
    image = Image.new("RGB", (width, height), colours[0])
    image.paste(colours[1], (width // 2, 0, width, height))
    return image


def sized_folder(folder):
    sizes = [(8, 8), (16, 8), (8, 24), (40, 40)]
    for number in range(8):
        path = folder / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = sizes[number // 2]
        half(((255, 0, 0), (0, 0, 255)), height, width).save(path)


def test_mixed_sizes_become_one_where_it_is_asked_for_and_it_is_said(tmp_path) -> None:
    sized_folder(tmp_path / "data")
    refused(tmp_path / "data", r"Bring all to one size with `resize` \(--resize 64, or 64x48\)")
    train, query = load(tmp_path / "data", resize=8, n_query=2, normalise=None)
    for part in (train, query):
        assert part.images.shape[1:] == (8, 8, 3)
        # Squeezed, the left half is red and the right one blue, whatever the shape was; the seam is mixed.
        assert (part.images[:, :, :3] == [255, 0, 0]).all()
        assert (part.images[:, :, 5:] == [0, 0, 255]).all()
    assert train.preparation["picture_form"] == {"size": [8, 8], "crop": False, "background": None}
    assert any("every picture was brought to 8 × 8 pixels, the whole of it squeezed" in note for note in
               train.preparation["notes"])  # fmt: skip


def test_crop_keeps_proportions_and_cuts_the_middle_out(tmp_path) -> None:
    stripes = np.zeros((6, 18), dtype=np.uint8)
    stripes[:, 6:12] = 200
    for number in range(8):
        path = tmp_path / "data" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(stripes))
    cut, _ = load(tmp_path / "data", resize=(6, 6), crop=True, n_query=2)
    assert (cut.images == 200).all()
    whole, _ = load(tmp_path / "data", resize="6x6", n_query=2)
    assert (whole.images[:, :, [0, 5]] == 0).all()
    assert any("its middle cut out" in note for note in cut.preparation["notes"])


def test_a_picture_in_the_wanted_size_stays_as_it_is(tmp_path) -> None:
    write_folder(tmp_path / "data", encoded(pictures()))
    same, _ = load(tmp_path / "data", resize="4x5")
    assert np.array_equal(same.images, load(tmp_path / "data")[0].images)


def test_resizing_averages_the_area_of_a_pixel(tmp_path) -> None:
    fine = np.indices((40, 40)).sum(0) % 2 * 200
    form = PictureForm((4, 4))
    assert (np.abs(decode_picture(picture(fine.astype(np.uint8)), "a", form).astype(int) - 100) <= 2).all()


def test_transparent_pixels_show_the_background_that_is_asked_for(tmp_path) -> None:
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    clear.putpixel((0, 0), (10, 20, 30, 255))
    clear.putpixel((1, 0), (0, 0, 0, 51))
    with pytest.raises(DataError, match=r"must be opaque; .* with `background` \(--background white"):
        decode_picture(saved(clear), "a")
    white = decode_picture(saved(clear), "a", PictureForm(background="white"))
    assert white[0, :3].tolist() == [[10, 20, 30], [204, 204, 204], [255, 255, 255]]
    black = decode_picture(saved(clear), "a", PictureForm(background="black"))
    assert black[1, 1].tolist() == [0, 0, 0]
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([9, 8, 7, 1, 1, 1])
    content = saved(palette, transparency=0)
    assert decode_picture(content, "a", PictureForm(background="white"))[0, 0].tolist() == [255] * 3


def test_pictures_in_the_colours_of_print_are_read() -> None:
    print_colours = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    decoded = decode_picture(saved(print_colours, "JPEG"), "a")
    assert decoded.shape == (16, 16, 3)
    assert np.abs(decoded[8, 8].astype(int) - [255, 0, 0]).max() <= 4


def test_a_photograph_larger_than_any_input_is_read_where_it_is_made_small() -> None:
    content = saved(Image.new("L", (5000, 5000), 7))
    assert (decode_picture(content, "a", PictureForm((8, 8))) == 7).all()


def test_it_is_turned_before_it_is_cut(tmp_path) -> None:
    image = half(((255, 0, 0), (0, 0, 255)), 8, 24)
    exif = Image.Exif()
    exif[0x0112] = 6  # held on its side: left becomes top
    content = saved(image, "PNG", exif=exif)
    turned = decode_picture(content, "a", PictureForm((8, 8)))
    assert (turned[:3] == [255, 0, 0]).all()
    assert (turned[5:] == [0, 0, 255]).all()


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("resize", [0, -1, "a", "8x", "8x8x8", (8,) * 3, 5000, 2.5, True, "", []])
def test_sizes_that_are_none_are_refused(resize) -> None:
    with pytest.raises(OptionError, match="`resize` must be a side or height and width"):
        load("digits", resize=resize)


@pytest.mark.usefixtures("as_users_run_it")
def test_options_of_picture_files_belong_to_them() -> None:
    for options in ({"resize": 8}, {"background": "white"}, {"resize": 8, "crop": True}):
        with pytest.raises(OptionError, match="must be left out unless the data are picture files"):
            load("digits", **options)
    with pytest.raises(OptionError, match="`crop` must be left out without `resize`"):
        load("digits", crop=True)
    with pytest.raises(OptionError, match="`background` must be"):
        load("digits", background="green")


def test_the_command_line_resizes(leftout, tmp_path) -> None:
    sized_folder(tmp_path / "data")
    words = (
        "influence",
        "data",
        "--n-query",
        "2",
        "--resize",
        "8x6",
        "--crop",
        "yes",
        "--background",
        "white",
    )
    status, out, err = leftout(*words)
    assert status == 0, err
    assert "note: every picture was brought to 8 × 6 pixels, its middle cut out" in out
    status, _, err = leftout("influence", "data")
    assert (status, "--resize 64" in err) == (2, True)
