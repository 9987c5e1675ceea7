"""Pictures in a folder or .zip, laid out as SPLIT/CLASS/FILE or CLASS/FILE.

One folder around all of it is allowed (`cifar10/train/airplane/0001.jpg`). Without splits, the seed
makes them. Files are listed first and decoded when they are chosen; an id is the path inside.
"""

import os
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from leftout.core.errors import DataError
from leftout.core.progress import with_progress
from leftout.core.wording import byte_size
from leftout.data.columns import text_array
from leftout.data.data_name import PICTURES
from leftout.data.data_source import DataSource, InputRows
from leftout.data.files import check_allocation, file_bytes
from leftout.data.picture_form import PictureForm, pixels
from leftout.data.pixels import WHITE, rows_of_images
from leftout.data.split import QUERY, TRAIN, named_splits
from leftout.data.targets import RawTargets, raw_targets
from leftout.data.zipped import member_bytes, open_zip, reason

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM")
"""Decoders that may run. Others are refused whatever the file's name says: some call programs."""

GREY_16 = "I;16"
"""Pillow's mode of a grey PNG of 16 bits a pixel."""

ORIENTATION, UPRIGHT = 0x0112, 1
"""The EXIF tag that says how a camera was held, and its value for upright."""

LARGEST_FILE = 2**28
LARGEST_PICTURE = 2**24
"""Bytes of a file and pixels of a picture beyond which no kernel on pixels is meant."""

LARGEST_PHOTOGRAPH = 2**26
"""Pixels of a picture that is made smaller."""


PLAIN = PictureForm()


@dataclass(frozen=True)
class Listing:
    """Sorted paths of pictures, and a function that yields the bytes of chosen ones in order."""

    paths: tuple[str, ...]
    contents: Callable[[Sequence[str]], Iterator[bytes]]
    ignored: int


def image_folder(folder: Path, source: str, form: PictureForm = PLAIN) -> DataSource:
    """Return the pictures of a folder (laid out as the module says)."""
    paths, ignored, visited = [], 0, set[Path]()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        _check_new(Path(place), visited)
        for name in names:
            path = Path(place, name)
            if name.lower().endswith(PICTURES) and not _is_hidden(name):
                paths.append(path.relative_to(folder).as_posix())
                _check_text(paths[-1])
            else:
                ignored += 1

    def contents(chosen: Sequence[str]) -> Iterator[bytes]:
        return (_folder_bytes(folder / path) for path in chosen)

    return _source_of_listing(Listing(tuple(sorted(paths)), contents, ignored), source, form)


def image_zip(path: Path, source: str, form: PictureForm = PLAIN) -> DataSource:
    """Return the pictures of a .zip archive; nothing is unpacked to disk."""
    paths, ignored = [], 0
    with open_zip(path) as archive:
        for member in archive.infolist():
            hidden = any(_is_hidden(name) for name in PurePosixPath(member.filename).parts)
            if member.filename.lower().endswith(PICTURES) and not hidden:
                paths.append(member.filename)
            else:
                _check_name(archive, member)
                ignored += not member.is_dir()

    def contents(chosen: Sequence[str]) -> Iterator[bytes]:
        with open_zip(path) as archive:
            for name in chosen:
                yield member_bytes(archive, name, limit=LARGEST_FILE)

    return _source_of_listing(Listing(tuple(sorted(paths)), contents, ignored), source, form)


def _unreadable(error: OSError) -> None:
    """Raise for a folder that cannot be listed: skipping it would lose its examples."""
    raise DataError(f"`{error.filename}` must be readable; got {error.strerror}.") from error


def _check_new(folder: Path, visited: set[Path]) -> None:
    """Raise when links lead into a folder a second time, which may go on without end."""
    place = folder.resolve()
    if place in visited:
        raise DataError(f"`{folder}` must be reached once; a link leads into {place} again. Remove the link.")
    visited.add(place)


def _check_text(path: str) -> None:
    """Raise when a file name is not valid UTF-8: it could be neither shown nor written into a table."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"`{path!a}` must have a name in UTF-8. Rename the file.") from error


def _check_name(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise when the archive's directory and the member disagree about the name, which is damaged."""
    try:
        archive.open(member).close()
    except Exception as error:
        raise DataError(
            f"`{member.filename}` in {archive.filename} cannot be read: {reason(error)}. Fetch or "
            "pack the archive again."
        ) from error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _folder_bytes(path: Path) -> bytes:
    if path.is_file() and path.stat().st_size > LARGEST_FILE:
        raise DataError(
            f"`{path}` must be at most {byte_size(LARGEST_FILE)}; it is {byte_size(path.stat().st_size)}."
        )
    return file_bytes(path)


def _source_of_listing(listing: Listing, source: str, form: PictureForm) -> DataSource:
    if not listing.paths:
        raise DataError(
            f"`{source}` must hold pictures ({', '.join(PICTURES)}) in folders by class, or by "
            "split and class; there is none."
        )
    splits, classes = _layout(listing.paths, source)
    unused: list[str] = []
    rows, is_query = np.arange(len(classes)), None
    if splits is not None:
        rows, is_query, unused = named_splits(source, splits)
    paths = [listing.paths[row] for row in rows]
    targets = raw_targets("classes", text_array([classes[row] for row in rows]))
    return DataSource(
        name=source,
        ids=paths,
        targets=_by_name(targets),
        read=lambda rows: _rows(listing, [paths[row] for row in rows], form),
        is_query=is_query,
        record={
            "format": "images",
            "white": WHITE,
            "unused_splits": unused,
            "ignored_files": listing.ignored,
            **form.record,
        },
    )


def _by_name(targets: RawTargets) -> RawTargets:
    """Return the targets with classes named by numbers in numerical order: 2 before 10."""
    if not all(name.isdecimal() and len(name) < 10 for name in targets.classes):
        return targets
    order = sorted(range(len(targets.classes)), key=lambda i: (int(targets.classes[i]), i))
    assert targets.labels is not None
    place = np.argsort(np.array(order))
    return RawTargets(place[targets.labels], tuple(targets.classes[i] for i in order), None)


def _layout(paths: Sequence[str], source: str) -> tuple[list[str] | None, list[str]]:
    """Return the split (None: there are none) and the class of every path.

    Raises:
        DataError: paths of different depth, or too deep, or splits without classes.
    """
    folders = [PurePosixPath(path).parts[:-1] for path in paths]
    names = (TRAIN, *QUERY)
    if len({folder[:1] for folder in folders}) == 1 and folders[0][:1]:
        # One folder around everything, unless it is a split or the only class.
        deeper = min(len(folder) for folder in folders) > 1
        if deeper and folders[0][0].lower() not in names:
            folders = [folder[1:] for folder in folders]
    depths = [len(folder) for folder in folders]
    odd = next((i for i, depth in enumerate(depths) if depth != depths[0]), None)
    if odd is not None:
        raise DataError(
            f"`{source}` must hold all pictures at one depth, as SPLIT/CLASS/FILE or CLASS/FILE; "
            f"got {paths[0]!r} and {paths[odd]!r}."
        )
    firsts = {folder[0].lower() for folder in folders if folder}
    if depths[0] == 2:
        return [folder[0] for folder in folders], [folder[1] for folder in folders]
    if depths[0] == 1 and not firsts <= set(names):
        return None, [folder[0] for folder in folders]
    raise DataError(
        f"`{source}` must hold pictures as SPLIT/CLASS/FILE or CLASS/FILE, with at most one folder "
        f"around them; got {paths[0]!r}, where the class is missing or a folder too many."
    )


def _rows(listing: Listing, paths: Sequence[str], form: PictureForm) -> InputRows:
    return picture_rows(paths, listing.contents(paths), form)


def picture_rows(
    paths: Sequence[str], contents: Iterable[bytes | Image.Image], form: PictureForm = PLAIN
) -> InputRows:
    """Return the decoded pictures; where some are coloured, grey ones are repeated in three channels.

    Args:
        paths: what messages call them.

    Raises:
        DataError: two pictures of different size, or one that cannot be decoded.
    """
    pictures: list[np.ndarray] = []
    turned: list[str] = []
    contents = with_progress(contents, what="decoding pictures", total=len(paths))
    for path, content in zip(paths, contents, strict=True):
        picture = decode_picture(content, path, form)
        turned += [path] if is_turned(content) else []
        if pictures and picture.shape[:2] != pictures[0].shape[:2]:
            first, second = (f"{p.shape[1]} × {p.shape[0]}" for p in (pictures[0], picture))
            raise DataError(
                f"`{path}` must have the size of the others: it is {second} pixels, "
                f"{paths[0]!r} is {first}. Bring all to one size with `resize` (--resize 64, or 64x48)."
            )
        if pictures and picture.dtype != pictures[0].dtype:
            bits, of_first = (8 * p.dtype.itemsize for p in (picture, pictures[0]))
            raise DataError(
                f"`{path}` must have as many bits a pixel as the others: it has {bits}, {paths[0]!r} has "
                f"{of_first}. Convert all to one depth."
            )
        if not pictures:
            # Eight bytes a number as inputs, one as picture.
            check_allocation(f"{len(paths)} pictures", 9 * len(paths) * picture.size)
        pictures.append(picture)
    if len({picture.ndim for picture in pictures}) > 1:
        pictures = [p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in pictures]
    count = f"{len(turned)} of {len(paths)} pictures"
    note = f"{count} were turned as their EXIF orientation says, the first {turned[:1]}"
    notes = [note] * bool(turned) + [form.note] * bool(form.note)
    return replace(rows_of_images(np.stack(pictures)), notes=tuple(notes))


def decode_picture(content: bytes | Image.Image, name: str, form: PictureForm = PLAIN) -> np.ndarray:
    """Return a picture as uint8, (h, w) if grey or (h, w, 3) in colour, upright as its EXIF data say.

    A grey PNG of 16 bits a pixel is uint16, exactly.

    Args:
        content: the bytes of a file, or a picture of Pillow.

    Raises:
        DataError: damaged, of no known format, too large, animated, transparent without a background, or of
            more than 8 bits a channel, unless it is a grey PNG.
    """
    try:
        with warnings.catch_warnings():
            # What the decoder only warns about (odd sizes, broken tags) is a damaged file here.
            warnings.simplefilter("error")
            if isinstance(content, Image.Image):
                _check_picture(content, name, form)
                return _pixels(ImageOps.exif_transpose(content), name, form)
            # Decoding skips the checksums of a PNG; `verify` reads them, and spends the file.
            with Image.open(BytesIO(content), formats=FORMATS) as image:
                image.verify()
            with Image.open(BytesIO(content), formats=FORMATS) as image:
                _check_picture(image, name, form)
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _pixels(image, name, form)
    except DataError:
        raise
    # A damaged file ends in OSError, SyntaxError, ValueError, IndexError, struct.error …
    except Exception as error:
        raise DataError(
            f"`{name}` cannot be decoded as a picture: {reason(error)}. Repair or remove it."
        ) from error


def is_turned(content: bytes | Image.Image) -> bool:
    """Return whether EXIF data of a picture that can be decoded say that it must be turned or mirrored."""
    if isinstance(content, Image.Image):
        return content.getexif().get(ORIENTATION, UPRIGHT) in range(2, 9)
    with Image.open(BytesIO(content), formats=FORMATS) as image:
        return image.getexif().get(ORIENTATION, UPRIGHT) in range(2, 9)


def _check_picture(image: Image.Image, name: str, form: PictureForm) -> None:
    width, height = image.size
    largest = LARGEST_PICTURE if form.size is None else LARGEST_PHOTOGRAPH
    if width * height > largest:
        raise DataError(
            f"`{name}` must have at most {largest} pixels; it says {width} × {height}. Scale it down"
            + (" with `resize` (--resize)." if form.size is None else ".")
        )
    if image.mode != GREY_16 and _is_deep(image):
        raise DataError(_depth_text(name, f"it has 16, and mode {image.mode!r}"))
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a photograph with a preview in the same file
        raise DataError(f"`{name}` must be one picture; it is animated, {frames} frames.")


def _is_deep(image: Image.Image) -> bool:
    """Return whether a file that is not decoded yet has more than 8 bits a channel."""
    tiles = getattr(image, "tile", ())
    if image.format == "PPM":
        # A tuple ends in the largest number that there may be.
        return any(isinstance(tile[3], tuple) and int(tile[3][-1]) > 255 for tile in tiles)
    return image.format == "PNG" and any(str(tile[3]).endswith(";16B") for tile in tiles)


def _depth_text(name: str, what: str) -> str:
    """Return the sentences on a picture whose numbers would be rounded to 8 bits."""
    return (
        f"`{name}` must have 8 bits a channel, or be a grey PNG of 16; {what}. Convert it, or pass the "
        "numbers as .npz, between 0 and 1."
    )


def _pixels(image: Image.Image, name: str, form: PictureForm) -> np.ndarray:
    if image.mode == GREY_16:
        return np.asarray(form.apply(image))
    if image.mode.startswith(("I", "F")):
        raise DataError(_depth_text(name, f"its mode is {image.mode!r}"))
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A").getextrema()
        if alpha != (255, 255) and form.background is not None:
            return pixels(form.flatten(image), form)
        if alpha != (255, 255):
            raise DataError(
                f"`{name}` must be opaque; it has transparent pixels. Say what stands behind them with "
                "`background` (--background white, or black)."
            )
    return pixels(image, form)
