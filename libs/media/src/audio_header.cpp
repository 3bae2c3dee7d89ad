// SPDX-License-Identifier: Apache-2.0
#include "audio_header.h"

extern "C" {
#include <libavutil/crc.h>
}

#include <algorithm>

#include "bad_media.h"
#include "byte_reader.h"

namespace veomni::media {

namespace {

// WAV (RIFF): blocks of a name, a length and padding to an even one.

// Formats whose blocks hold one sample of each channel: integers, floats, A-law, µ-law, and what names itself later.
bool is_plain(uint64_t format) {
  return format == 1 || format == 3 || format == 6 || format == 7 || format == 0xfffe;
}

int64_t check_wav(const ByteReader& in, const std::string& where) {
  uint64_t format = 0, block_align = 0;
  for (uint64_t at = 12; in.has(at, 8);) {
    const uint64_t length = in.le32(at + 4), there = in.size() - at - 8;
    if (in.matches(at, "fmt ")) {
      format = in.le16(at + 8);
      block_align = in.le16(at + 20);
    }
    if (in.matches(at, "data")) {
      // A writer that could not go back to its header leaves this for "up to the end".
      if (length == 0xffffffff) return 0;
      if (length > there)
        bad_media(where, "a WAV cut short: its header says ", length, " bytes of samples, ", there,
                  " are there");
      if (block_align == 0) bad_media(where, "a WAV that does not say how its samples are stored");
      return is_plain(format) ? static_cast<int64_t>(length / block_align) : 0;
    }
    at += 8 + length + length % 2;
  }
  bad_media(where, "a WAV without samples");
}

// FLAC (RFC 9639, section 8.2): the first block holds the number of samples in 36 bits; 0 is unknown.

int64_t check_flac(const ByteReader& in, const std::string& where) {
  if ((in.u8(4) & 0x7f) != 0 || !in.has(4, 38)) bad_media(where, "a FLAC without its first block");
  return static_cast<int64_t>(uint64_t{in.u8(21) & 0x0fu} << 32 | in.be32(22));
}

// MP3: most encoders fill the first frame with a table of contents that says how many bytes there are.

uint64_t after_id3(const ByteReader& in) {
  if (!in.matches(0, "ID3")) return 0;
  // Seven bits a byte.
  const uint64_t length = (in.u8(6) & 127u) << 21 | (in.u8(7) & 127u) << 14 |
                          (in.u8(8) & 127u) << 7 | (in.u8(9) & 127u);
  return 10 + length;
}

// Returns where they end; a file without that table ends with its last byte.
uint64_t end_of_mp3(const ByteReader& in, const std::string& where) {
  const uint64_t frame = after_id3(in);
  if (!in.has(frame, 4))
    bad_media(where, "an MP3 cut short: its tag has ", frame, " bytes, the file ", in.size());
  const bool is_mpeg1 = (in.u8(frame + 1) >> 3 & 3) == 3, is_mono = in.u8(frame + 3) >> 6 == 3;
  const uint64_t side = is_mpeg1 ? (is_mono ? 17 : 32) : (is_mono ? 9 : 17);
  const uint64_t table = frame + 4 + side;
  constexpr uint32_t kHasFrames = 1, kHasBytes = 2;
  const uint32_t flags = in.be32(table + 4);
  if ((!in.matches(table, "Xing") && !in.matches(table, "Info")) || !(flags & kHasBytes))
    return in.size();
  const uint64_t bytes = in.be32(table + (flags & kHasFrames ? 12 : 8));
  if (bytes == 0) return in.size();
  if (!in.has(frame, bytes))
    bad_media(where, "an MP3 cut short: its header says ", bytes, " bytes of sound, ",
              in.size() - frame, " are there");
  return frame + bytes;
}

// OGG (RFC 3533, section 6).

uint32_t page_checksum(const ByteReader& in, uint64_t at, uint64_t length) {
  const auto* table = av_crc_get_table(AV_CRC_32_IEEE);
  const auto add = [&](uint32_t crc, std::span<const std::byte> bytes) {
    return av_crc(table, crc, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  };
  // The checksum's own place counts as zeros.
  const std::byte zeros[4] = {};
  return add(add(add(0, in.part(at, 22)), zeros), in.part(at + 26, length - 26));
}

// How many samples lie before the first that is heard: Opus says so, the others have none.
int64_t samples_before(const ByteReader& in, uint64_t payload) {
  return in.matches(payload, "OpusHead") ? in.le16(payload + 10) : 0;
}

// Returns the samples up to the last page's end, where the first page of sound began with the first of them.
int64_t check_ogg(const ByteReader& in, const std::string& where) {
  constexpr uint8_t kFirst = 2, kLast = 4;
  int64_t end = 0, before = 0;
  bool ended = false;
  for (uint64_t at = 0; at < in.size();) {
    const uint64_t segments = in.u8(at + 26);
    uint64_t length = 27 + segments;
    for (uint64_t i = 0; i < segments; ++i) length += in.u8(at + 27 + i);
    if (in.has(at, 4) && !in.matches(at, "OggS"))
      bad_media(where, "a damaged OGG: no page begins at byte ", at);
    if (!in.has(at, length))
      bad_media(where, "an OGG cut short: its page at byte ", at, " says ", length, " bytes, ",
                in.size() - at, " are there");
    if (page_checksum(in, at, length) != in.be32(at + 22))
      bad_media(where, "a damaged OGG: wrong checksum of the page at byte ", at);
    const uint8_t flags = in.u8(at + 5);
    if (ended && (flags & kFirst))
      bad_media(where, "an OGG of several clips one after another: save each by itself");
    if (flags & kFirst) before = std::max(before, samples_before(in, at + 27 + segments));
    if (flags & kLast) {
      ended = true;
      end = static_cast<int64_t>(uint64_t{in.le32(at + 10)} << 32 | in.le32(at + 6));
    }
    at += length;
  }
  if (!ended)
    bad_media(where, "an OGG cut short: its ", in.size(), " bytes end before its last page");
  return std::max<int64_t>(end - before, 0);
}

}  // namespace

AudioHeader read_audio_header(FileKind kind, std::span<const std::byte> file,
                              const std::string& where) {
  const ByteReader in(file);
  AudioHeader header{.end = file.size()};
  switch (kind) {
    case FileKind::kWav: header.num_samples = check_wav(in, where); break;
    case FileKind::kFlac: header.num_samples = check_flac(in, where); break;
    case FileKind::kMp3: header.end = end_of_mp3(in, where); break;
    case FileKind::kOgg: header.most_samples = check_ogg(in, where); break;
    default: bad_media(where, "not a clip");
  }
  return header;
}

}  // namespace veomni::media
