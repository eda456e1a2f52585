"""What a GGUF file says of itself, read from its header: no model is loaded, and no package is needed."""

import hashlib
import pathlib
import struct

# By type, as in the GGUF format: how struct reads it. 8 is a string, 9 an array.
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


class Header:
    def __init__(self, file):
        self.file = file

    def number(self, kind):
        size = struct.calcsize("<" + kind)
        data = self.file.read(size)
        if len(data) != size:
            raise ValueError("the file ends inside its metadata")
        return struct.unpack("<" + kind, data)[0]

    def string(self):
        size = self.number("Q")
        data = self.file.read(size)
        if len(data) != size:
            raise ValueError("the file ends inside its metadata")
        return data.decode(errors="replace")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            of, count = self.number("I"), self.number("Q")
            return [self.value(of) for _ in range(count)]
        if kind not in NUMBERS:
            raise ValueError(f"type {kind} of a metadata value is none of GGUF")
        return self.number(NUMBERS[kind])


def metadata(path):
    """{key: value}. ValueError: it is no GGUF file."""
    with open(path, "rb") as file:
        header = Header(file)
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path} is no GGUF file")
        header.number("I")  # the format's version; 2 and 3 have the same header
        header.number("Q")  # tensors
        return {header.string(): header.value(header.number("I")) for _ in range(header.number("Q"))}


def model_name(path):
    """Its own name and size, else the file's name."""
    found = metadata(path)
    name, size = found.get("general.name", ""), found.get("general.size_label", "")
    if not name:
        return pathlib.Path(path).stem
    return f"{name} {size}" if size and size.lower() not in name.lower() else name


def short_hash(path):
    """The first 12 digits of the file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
