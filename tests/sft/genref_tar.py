"""Small tar files as GenRef's shards are."""

import io
import tarfile

from PIL import Image


def jpeg(value, size=(24, 16)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 90, 200)).save(buffer, "JPEG")
    return buffer.getvalue()


def record(k, **changes):
    """The files of a pair by their fields: its good picture is light, its bad one dark; ``None`` leaves one out."""
    files = {
        "good_image.jpg": jpeg(250),
        "bad_image.jpg": jpeg(10),
        "reflection.txt": f"The dog number {k} is blue. Make the dog brown.".encode(),
        "prompt.txt": f"a brown dog number {k} on a sofa".encode(),
        "subset.txt": b"rule",
    }
    files |= changes
    return {name: data for name, data in files.items() if data is not None}


def add(tar, name, data=None):
    """Puts a file into a tar, or a folder where there are no data."""
    info = tarfile.TarInfo(name)
    info.type, info.size = (tarfile.DIRTYPE, 0) if data is None else (tarfile.REGTYPE, len(data))
    tar.addfile(info, io.BytesIO(data or b""))


def shard(path, records):
    """A tar file of records."""
    with tarfile.open(path, "w") as tar:
        for k, files in enumerate(records):
            for name, data in files.items():
                add(tar, f"part.1/{k:06d}.{name}", data)
    return path
