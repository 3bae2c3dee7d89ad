// SPDX-License-Identifier: Apache-2.0
#include "file_kind.h"

#include <fmt/format.h>

#include "byte_reader.h"

namespace veomni::media {

namespace {

using namespace std::string_view_literals;

struct Magic {
  FileKind kind;
  const char* name;
  std::string_view at_0;
  size_t also_at = 0;
  std::string_view also = ""sv;
};

// First match wins.
constexpr Magic kMagics[] = {
    {FileKind::kJpeg, "a JPEG", "\xff\xd8\xff"sv},
    {FileKind::kPng, "a PNG", "\x89PNG\r\n\x1a\n"sv},
    {FileKind::kWebp, "a WebP", "RIFF"sv, 8, "WEBP"sv},
    {FileKind::kGif, "a GIF", "GIF87a"sv},
    {FileKind::kGif, "a GIF", "GIF89a"sv},
    {FileKind::kWav, "a WAV", "RIFF"sv, 8, "WAVE"sv},
    {FileKind::kFlac, "a FLAC", "fLaC"sv},
    {FileKind::kMp3, "an MP3", "ID3"sv},
    {FileKind::kOgg, "an OGG", "OggS"sv},
    {FileKind::kOther, "an AVI", "RIFF"sv, 8, "AVI "sv},
    {FileKind::kOther, "an AVIF", ""sv, 4, "ftypavif"sv},
    {FileKind::kOther, "an HEIC", ""sv, 4, "ftyphei"sv},
    {FileKind::kOther, "an M4A", ""sv, 4, "ftypM4A"sv},
    {FileKind::kOther, "an MP4", ""sv, 4, "ftyp"sv},
    {FileKind::kOther, "a TIFF", "II*\0"sv},
    {FileKind::kOther, "a TIFF", "MM\0*"sv},
    {FileKind::kOther, "a BMP", "BM"sv, 6, "\0\0\0\0"sv},
    {FileKind::kOther, "a PDF", "%PDF-"sv},
    {FileKind::kOther, "a ZIP", "PK\x03\x04"sv},
    {FileKind::kOther, "a GZIP", "\x1f\x8b"sv},
    {FileKind::kOther, "a JPEG 2000", "\0\0\0\x0cjP  "sv},
    {FileKind::kOther, "a JPEG XL", "\xff\x0a"sv},
    {FileKind::kOther, "a Matroska or WebM", "\x1a\x45\xdf\xa3"sv},
    {FileKind::kOther, "an AIFF", "FORM"sv, 8, "AIF"sv},
    {FileKind::kOther, "an AU", ".snd"sv},
    {FileKind::kOther, "an SVG or other XML", "<?xml"sv},
    {FileKind::kOther, "an SVG", "<svg"sv},
    {FileKind::kOther, "an HTML page", "<!DOCTYPE"sv},
    {FileKind::kOther, "an HTML page", "<html"sv},
    {FileKind::kOther, "a Git LFS pointer", "version https://git-lfs"sv},
};

// MPEG-1, 2 or 2.5 audio, layer III, with a bit rate and a sample rate: what an MP3 without a tag begins with.
bool is_mp3_frame(const ByteReader& in) {
  const uint32_t header = in.be32(0);
  return (header & 0xffe00000) == 0xffe00000 && (header >> 19 & 3) != 1 &&
         (header >> 17 & 3) == 1 && (header >> 12 & 15) != 15 && (header >> 12 & 15) != 0 &&
         (header >> 10 & 3) != 3;
}

}  // namespace

KindOfFile kind_of(std::span<const std::byte> file) {
  const ByteReader in(file);
  for (const Magic& magic : kMagics) {
    if (in.matches(0, magic.at_0) && in.matches(magic.also_at, magic.also))
      return {magic.kind, magic.name};
  }
  if (is_mp3_frame(in)) return {FileKind::kMp3, "an MP3"};
  if (file.empty()) return {FileKind::kUnknown, "empty"};
  std::string bytes;
  for (size_t i = 0; i < std::min<size_t>(file.size(), 8); ++i)
    bytes += fmt::format("{}{:02x}", i ? " " : "", in.u8(i));
  return {FileKind::kUnknown, fmt::format("of an unknown kind (it begins with {})", bytes)};
}

}  // namespace veomni::media
