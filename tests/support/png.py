"""As much of PNG as the test needs: the pixels of the 8-bit truecolour pictures that Chromium writes."""
import struct
import zlib


def rows_of(data, most):
    """The first rows, as bytes of 3 or 4 a pixel. Fails on what is not a whole PNG."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("not a PNG")
    at, packed, header = 8, b"", None
    while True:
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if zlib.crc32(kind + body) != struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0]:
            raise ValueError("a damaged PNG")
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", body)
        elif kind == b"IDAT":
            packed += body
        elif kind == b"IEND":
            break
        at += 12 + length
    width, height, depth, colour, _, _, interlaced = header
    if depth != 8 or colour not in (2, 6) or interlaced:
        raise ValueError("a PNG of a kind that is not read here")
    return unfiltered(zlib.decompress(packed), width, min(height, most), 3 if colour == 2 else 4)


def unfiltered(raw, width, height, step):
    stride, rows = width * step, []
    above = bytearray(stride)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        if kind == 2:
            line = bytearray((a + b) & 255 for a, b in zip(line, above))
        elif kind:
            for x in range(stride):
                left = line[x - step] if x >= step else 0
                corner = above[x - step] if x >= step else 0
                line[x] = (line[x] + predicted(kind, left, above[x], corner)) & 255
        rows.append(bytes(line))
        above = line
    return rows


def predicted(kind, left, up, corner):
    if kind == 1:
        return left
    if kind == 3:
        return (left + up) // 2
    guess = left + up - corner
    return min((left, up, corner), key=lambda value: abs(guess - value))


def colours(data, most_rows=400):
    rows = rows_of(data, most_rows)
    step = 3 if data[25] == 2 else 4
    return {row[x:x + step] for row in rows for x in range(0, len(row), step)}
