# SPDX-License-Identifier: Apache-2.0
"""PNG pictures of 8 bits a channel, by zlib alone: enough to write the data set and to read what a model drew."""
import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}   # by colour type: grey, RGB, grey and alpha, RGBA


class Unreadable(ValueError):
    """Bytes that are no PNG this module reads; the text says why."""


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_grey(pixels, width, height):
    """A grey picture; `pixels` are its rows from the top, a byte a pixel."""
    if len(pixels) != width * height:
        raise ValueError(f"{len(pixels)} bytes are no {width} x {height} grey picture")
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    # Every row says that it is stored unfiltered (0).
    rows = b"".join(b"\0" + pixels[start:start + width] for start in range(0, width * height, width))
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 6)) + chunk(b"IEND", b"")


def chunks(data):
    """(kind, bytes) of every chunk, checked by its CRC."""
    if data[:8] != SIGNATURE:
        raise Unreadable("does not begin with PNG's signature")
    at = 8
    while at < len(data):
        if at + 12 > len(data):
            raise Unreadable("ends inside a chunk")
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        body, crc = data[at + 8:at + 8 + size], data[at + 8 + size:at + 12 + size]
        if len(crc) < 4:
            raise Unreadable(f"ends inside chunk {kind}")
        if struct.unpack(">I", crc)[0] != zlib.crc32(kind + body):
            raise Unreadable(f"chunk {kind} does not fit its CRC")
        yield kind, body
        at += 12 + size


def paeth(left, up, corner):
    guess = left + up - corner
    to_left, to_up, to_corner = abs(guess - left), abs(guess - up), abs(guess - corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner


def unfilter(kind, row, above, step):
    """Undoes one row's filter in place; `step` is a pixel's bytes, `above` the row before it."""
    if kind == 1:
        for i in range(step, len(row)):
            row[i] = (row[i] + row[i - step]) & 255
    elif kind == 2:
        for i, up in enumerate(above):
            row[i] = (row[i] + up) & 255
    elif kind == 3:
        for i, up in enumerate(above):
            left = row[i - step] if i >= step else 0
            row[i] = (row[i] + ((left + up) >> 1)) & 255
    elif kind == 4:
        for i, up in enumerate(above):
            left, corner = (row[i - step], above[i - step]) if i >= step else (0, 0)
            row[i] = (row[i] + paeth(left, up, corner)) & 255
    elif kind != 0:
        raise Unreadable(f"has a row of filter type {kind}")


def read(data):
    """(width, height, channels, pixels), pixels row by row from the top. @throws Unreadable"""
    header, body, ended = None, b"", False
    for kind, part in chunks(data):
        if kind == b"IHDR" and len(part) == 13:
            header = struct.unpack(">IIBBBBB", part)
        elif kind == b"IDAT":
            body += part
        ended = ended or kind == b"IEND"
    if header is None or not ended:
        raise Unreadable("has no IHDR chunk" if header is None else "has no IEND chunk")
    width, height, depth, colour, _, _, interlaced = header
    if depth != 8 or colour not in CHANNELS or interlaced or not width or not height:
        raise Unreadable(f"is {width} x {height}, {depth} bits, colour type {colour}, interlacing {interlaced}; "
                         "read are 8 bits of grey or RGB, not interlaced")
    step = CHANNELS[colour]
    stride = width * step
    try:
        rows = zlib.decompress(body)
    except zlib.error as error:
        raise Unreadable(f"has broken pixels ({error})") from error
    if len(rows) != height * (stride + 1):
        raise Unreadable(f"has {len(rows)} bytes of pixels, not {height * (stride + 1)}")
    pixels, above = [], bytes(stride)
    for start in range(0, len(rows), stride + 1):
        row = bytearray(rows[start + 1:start + 1 + stride])
        unfilter(rows[start], row, above, step)
        pixels.append(row)
        above = row
    return width, height, step, b"".join(pixels)
