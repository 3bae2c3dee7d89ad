// SPDX-License-Identifier: Apache-2.0
#include "image_header.h"

extern "C" {
#include <libavutil/crc.h>
}

#include <algorithm>

#include "bad_media.h"
#include "byte_reader.h"

namespace veomni::media {

namespace {

using namespace std::string_view_literals;

// The orientation in an EXIF block (a TIFF header and its first directory); 1 where there is none.
int orientation_of(ByteReader exif) {
  if (exif.matches(0, "Exif\0\0"sv)) exif = ByteReader(exif.part(6, exif.size() - 6));
  const bool little = exif.matches(0, "II*\0"sv);
  if (!little && !exif.matches(0, "MM\0*"sv)) return 1;
  const auto u16 = [&](uint64_t at) { return little ? exif.le16(at) : exif.be16(at); };
  const auto u32 = [&](uint64_t at) { return little ? exif.le32(at) : exif.be32(at); };
  constexpr uint32_t kOrientation = 0x0112, kByte = 1, kShort = 3, kLong = 4;
  const uint64_t directory = u32(4), entries = u16(directory);
  for (uint64_t i = 0; i < entries && exif.has(directory + 2 + 12 * i, 12); ++i) {
    const uint64_t entry = directory + 2 + 12 * i;
    if (u16(entry) != kOrientation) continue;
    const uint32_t type = u16(entry + 2);
    const uint32_t value = type == kByte    ? exif.u8(entry + 8)
                           : type == kShort ? u16(entry + 8)
                           : type == kLong  ? u32(entry + 8)
                                            : 1;
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

// JPEG (ITU-T T.81, annex B).

bool is_frame_header(uint8_t marker) {
  return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

// The next marker at or after `at`: 0xff and a byte that neither stuffs nor restarts nor fills.
uint64_t find_marker(const ByteReader& in, uint64_t at) {
  while (in.has(at, 2)) {
    const uint8_t code = in.u8(at + 1);
    const bool passes = code == 0x00 || code == 0xff || (code >= 0xd0 && code <= 0xd7);
    if (in.u8(at) == 0xff && !passes) return at;
    ++at;
  }
  return in.size();
}

ImageHeader read_jpeg(const ByteReader& in, const std::string& where) {
  ImageHeader header;
  bool exif_seen = false;
  uint64_t at = find_marker(in, 2);
  while (in.has(at, 2)) {
    const uint8_t marker = in.u8(at + 1);
    constexpr uint8_t kEndOfImage = 0xd9, kApp1 = 0xe1;
    if (marker == kEndOfImage) {
      if (header.width == 0) bad_media(where, "a JPEG without a frame header");
      header.picture_bytes = at + 2;
      return header;
    }
    const uint64_t length = in.be16(at + 2);
    if (length < 2 || !in.has(at + 2, length)) break;
    if (is_frame_header(marker) && header.width == 0) {
      header.height = in.be16(at + 5);
      header.width = in.be16(at + 7);
      header.channels = in.u8(at + 9);
    } else if (marker == kApp1 && !exif_seen && in.matches(at + 4, "Exif\0\0"sv)) {
      exif_seen = true;
      header.orientation = orientation_of(ByteReader(in.part(at + 4, length - 2)));
    }
    // After a scan's header come its data, up to the next marker.
    at = find_marker(in, at + 2 + length);
  }
  bad_media(where, "a JPEG cut short: its ", in.size(), " bytes end before the end marker");
}

// PNG (ISO/IEC 15948, clause 5).

ImageHeader read_png(const ByteReader& in, const std::string& where) {
  ImageHeader header;
  bool has_data = false;
  uint64_t at = 8;
  while (in.has(at, 12)) {
    const uint64_t length = in.be32(at);
    if (!in.has(at, 12 + length)) break;
    const auto checked = in.part(at + 4, 4 + length);
    const uint32_t crc = ~av_crc(av_crc_get_table(AV_CRC_32_IEEE_LE), ~uint32_t{0},
                                 reinterpret_cast<const uint8_t*>(checked.data()), checked.size());
    // av_crc's result lies in memory as a little-endian number; the file holds it big-endian.
    if (crc != in.be32(at + 8 + length))
      bad_media(where, "a damaged PNG: wrong checksum of the block at byte ", at);
    if ((at == 8) != in.matches(at + 4, "IHDR") || (at == 8 && length != 13))
      bad_media(where, "a PNG that does not begin with its one header");
    if (at == 8) {
      header.width = in.be32(at + 8);
      header.height = in.be32(at + 12);
      header.deep_grey = in.u8(at + 16) == 16 && in.u8(at + 17) == 0;
    } else if (in.matches(at + 4, "IDAT")) {
      has_data = true;
    } else if (in.matches(at + 4, "eXIf")) {
      header.orientation = orientation_of(ByteReader(in.part(at + 8, length)));
    } else if (in.matches(at + 4, "IEND")) {
      if (!has_data) bad_media(where, "a PNG without a picture");
      header.picture_bytes = at + 12 + length;
      return header;
    }
    at += 12 + length;
  }
  bad_media(where, "a PNG cut short: its ", in.size(), " bytes end before the end block");
}

// WebP (RFC 9649, section 2).

void read_webp_size(const ByteReader& in, const std::string& where, ImageHeader& header) {
  constexpr uint8_t kAnimated = 0x02;
  if (in.matches(12, "VP8X")) {
    if (in.u8(20) & kAnimated)
      bad_media(where, "an animated WebP, which is not supported: save one picture of it");
    header.width = in.le24(24) + 1;
    header.height = in.le24(27) + 1;
  } else if (in.matches(12, "VP8L") && in.u8(20) == 0x2f) {
    header.width = (in.le32(21) & 0x3fff) + 1;
    header.height = (in.le32(21) >> 14 & 0x3fff) + 1;
  } else if (in.matches(12, "VP8 ") && in.matches(23, "\x9d\x01\x2a"sv)) {
    header.width = in.le16(26) & 0x3fff;
    header.height = in.le16(28) & 0x3fff;
  } else {
    bad_media(where, "a WebP that does not begin with a picture");
  }
}

ImageHeader read_webp(const ByteReader& in, const std::string& where) {
  ImageHeader header;
  const uint64_t riff_end = 8 + uint64_t{in.le32(4)};
  if (riff_end > in.size())
    bad_media(where, "a WebP cut short: its header says ", riff_end, " bytes, the file has ",
              in.size());
  read_webp_size(in, where, header);
  for (uint64_t at = 12; at < riff_end;) {
    const uint64_t length = in.le32(at + 4);
    if (at + 8 + length > riff_end)
      bad_media(where, "a damaged WebP: the block at byte ", at, " says ", length,
                " bytes, but the file ends at ", riff_end);
    if (in.matches(at, "EXIF"))
      header.orientation = orientation_of(ByteReader(in.part(at + 8, length)));
    at += 8 + length + length % 2;
  }
  header.picture_bytes = riff_end;
  return header;
}

// GIF (the GIF89a specification).

uint64_t colour_table_bytes(uint8_t flags) { return flags & 0x80 ? 3u << ((flags & 7) + 1) : 0; }

// Where a chain of sub-blocks ends, after its empty one; past the file's end if it does not.
uint64_t after_sub_blocks(const ByteReader& in, uint64_t at) {
  while (in.u8(at) != 0) at += 1 + in.u8(at);
  return at + 1;
}

ImageHeader read_gif(const ByteReader& in, const std::string& where) {
  constexpr uint8_t kExtension = 0x21, kImage = 0x2c, kGraphicControl = 0xf9;
  ImageHeader header;
  header.width = in.le16(6);
  header.height = in.le16(8);
  uint64_t at = 13 + colour_table_bytes(in.u8(10));
  while (in.has(at, 1)) {
    if (in.u8(at) == kExtension) {
      if (in.u8(at + 1) == kGraphicControl && in.u8(at + 2) == 4 && in.has(at, 7))
        header.graphic_control = at + 3;
      at = after_sub_blocks(in, at + 2);
    } else if (in.u8(at) == kImage) {
      // Nine bytes of place and size, the picture's own colours, the width of its first codes.
      header.picture_bytes = after_sub_blocks(in, at + 11 + colour_table_bytes(in.u8(at + 9)));
      if (header.picture_bytes > in.size()) break;
      return header;
    } else {
      bad_media(where, "a GIF without a picture before byte ", at);
    }
  }
  bad_media(where, "a GIF cut short: its ", in.size(),
            " bytes end before the first picture's last block");
}

}  // namespace

ImageHeader read_image_header(FileKind kind, std::span<const std::byte> file,
                              const std::string& where) {
  const ByteReader in(file);
  switch (kind) {
    case FileKind::kJpeg: return read_jpeg(in, where);
    case FileKind::kPng: return read_png(in, where);
    case FileKind::kWebp: return read_webp(in, where);
    case FileKind::kGif: return read_gif(in, where);
    default: bad_media(where, "not a picture");
  }
}

}  // namespace veomni::media
