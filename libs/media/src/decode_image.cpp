// SPDX-License-Identifier: Apache-2.0
#include "veomni/media/image.h"

#include <algorithm>
#include <utility>

#include "av.h"
#include "bad_media.h"
#include "decode_jpeg.h"
#include "frame_rgb.h"
#include "image_header.h"

namespace veomni::media {

namespace {

void check_limits(const ImageHeader& header, const ImageLimits& limits, const std::string& where) {
  const int64_t height = header.height, width = header.width;
  if (height <= 0 || width <= 0) bad_media(where, "a picture of ", width, " x ", height, " pixels");
  if (height > limits.max_pixels / width)
    bad_media(where, "its ", width, " x ", height, " pixels are more than the limit of ",
              limits.max_pixels);
  const double ratio =
      static_cast<double>(std::max(height, width)) / static_cast<double>(std::min(height, width));
  if (ratio > limits.max_ratio)
    bad_media(where, "its longer side (", std::max(height, width), ") is ", ratio,
              " times its shorter one; at most ", limits.max_ratio, " is allowed");
}

AVCodecID codec_of(FileKind kind) {
  switch (kind) {
    case FileKind::kPng: return AV_CODEC_ID_PNG;
    case FileKind::kWebp: return AV_CODEC_ID_WEBP;
    case FileKind::kGif: return AV_CODEC_ID_GIF;
    default: return AV_CODEC_ID_NONE;
  }
}

// Pillow shows a GIF's transparent colour, fills what the first picture leaves of the canvas with it, and without one
// fills it with colour 0, whatever the header calls the background.
void show_hidden_colour(const ImageHeader& header, AVPacket& packet) {
  constexpr size_t kBackground = 11;
  packet.data[kBackground] = 0;
  if (!header.graphic_control) return;
  uint8_t* control = packet.data + *header.graphic_control;
  if (control[0] & 1) packet.data[kBackground] = control[3];
  control[0] &= 0xfe;
}

av::Frame decode_frame(const KindOfFile& kind, std::span<const std::byte> file,
                       const ImageHeader& header, const std::string& where) {
  auto packet = av::make_packet(file.first(header.picture_bytes));
  packet->flags |= AV_PKT_FLAG_KEY;
  if (kind.kind == FileKind::kGif) show_hidden_colour(header, *packet);
  av::clear_messages();
  auto decoder = av::make_decoder(codec_of(kind.kind), kind.name.c_str());
  // FFmpeg counts sides rounded up to its alignment; the header's claim is compared below.
  decoder->max_pixels = (header.height + 64) * (header.width + 128);
  av::open(*decoder);
  auto frame = av::make_frame();
  int error = avcodec_send_packet(decoder.get(), packet.get());
  if (error >= 0) error = avcodec_send_packet(decoder.get(), nullptr);
  if (error >= 0) error = avcodec_receive_frame(decoder.get(), frame.get());
  if (error < 0) bad_media(where, kind.name, " that does not decode: ", av::describe(error));
  if (frame->height != header.height || frame->width != header.width)
    bad_media(where, kind.name, " that says ", header.width, " x ", header.height,
              " pixels and holds ", frame->width, " x ", frame->height);
  // FFmpeg only complains of a PNG whose compressed data end early.
  if (kind.kind == FileKind::kPng && !av::complaint().empty())
    bad_media(where, kind.name, " that does not decode: ", av::complaint());
  if (frame->decode_error_flags != 0 || (frame->flags & AV_FRAME_FLAG_CORRUPT))
    bad_media(where, kind.name, " whose pixels are damaged");
  return frame;
}

// The stored picture as EXIF says it is to be seen: a mirror, a turn, or both.
Image oriented(Image stored, int orientation) {
  if (orientation == 1) return stored;
  const bool swaps = orientation >= 5;
  const int64_t height = stored.height, width = stored.width;
  Image seen{swaps ? width : height, swaps ? height : width, {}};
  seen.rgb.resize(stored.rgb.size());
  const bool flip_rows =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const bool flip_columns =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  uint8_t* out = seen.rgb.data();
  for (int64_t y = 0; y < seen.height; ++y) {
    for (int64_t x = 0; x < seen.width; ++x, out += 3) {
      const int64_t row = swaps ? x : y, column = swaps ? y : x;
      const int64_t from_row = flip_rows ? height - 1 - row : row;
      const int64_t from_column = flip_columns ? width - 1 - column : column;
      std::copy_n(stored.rgb.data() + 3 * (from_row * width + from_column), 3, out);
    }
  }
  return seen;
}

}  // namespace

Image decode_image(std::span<const std::byte> file, const std::string& where,
                   const ImageLimits& limits) {
  const auto kind = kind_of(file);
  const bool is_jpeg = kind.kind == FileKind::kJpeg;
  if (!is_jpeg && codec_of(kind.kind) == AV_CODEC_ID_NONE)
    bad_media(where, "not a JPEG, PNG, WebP or GIF: it is ", kind.name);
  const auto header = read_image_header(kind.kind, file, where);
  check_limits(header, limits, where);
  auto rgb = is_jpeg
                 ? decode_jpeg(file.first(header.picture_bytes), header, where)
                 : frame_to_rgb(*decode_frame(kind, file, header, where), kind.kind, header, where);
  return oriented({header.height, header.width, std::move(rgb)}, header.orientation);
}

}  // namespace veomni::media
