// SPDX-License-Identifier: Apache-2.0
#include "frame_rgb.h"

extern "C" {
#include <libavutil/pixdesc.h>
}

#include <array>

#include "bad_media.h"
#include "webp_rgb.h"

namespace veomni::media {

namespace {

// Where the 8 bits (of 16: the upper 8) of one colour lie in a frame.
struct Samples {
  const uint8_t* data;
  int64_t stride, step;
};

Samples samples_of(const AVFrame& frame, const AVPixFmtDescriptor& format, int component) {
  const AVComponentDescriptor& c = format.comp[component];
  const bool upper_second = c.depth > 8 && !(format.flags & AV_PIX_FMT_FLAG_BE);
  return {frame.data[c.plane] + c.offset + (upper_second ? 1 : 0), frame.linesize[c.plane], c.step};
}

std::vector<uint8_t> interleave(const AVFrame& frame, const std::array<Samples, 3>& colours) {
  const int64_t height = frame.height, width = frame.width;
  std::vector<uint8_t> rgb(height * width * 3);
  uint8_t* out = rgb.data();
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* r = colours[0].data + y * colours[0].stride;
    const uint8_t* g = colours[1].data + y * colours[1].stride;
    const uint8_t* b = colours[2].data + y * colours[2].stride;
    const int64_t step = colours[0].step;
    for (int64_t x = 0; x < width; ++x, out += 3) {
      out[0] = r[x * step];
      out[1] = g[x * step];
      out[2] = b[x * step];
    }
  }
  return rgb;
}

std::vector<uint8_t> from_palette(const AVFrame& frame) {
  std::vector<uint8_t> rgb(int64_t{frame.height} * frame.width * 3);
  const auto* palette = reinterpret_cast<const uint32_t*>(frame.data[1]);  // 0xAARRGGBB
  uint8_t* out = rgb.data();
  for (int64_t y = 0; y < frame.height; ++y) {
    const uint8_t* row = frame.data[0] + y * frame.linesize[0];
    for (int64_t x = 0; x < frame.width; ++x, out += 3) {
      const uint32_t colour = palette[row[x]];
      out[0] = static_cast<uint8_t>(colour >> 16);
      out[1] = static_cast<uint8_t>(colour >> 8);
      out[2] = static_cast<uint8_t>(colour);
    }
  }
  return rgb;
}

std::vector<uint8_t> from_deep_grey(const AVFrame& frame, const AVPixFmtDescriptor& format) {
  const Samples upper = samples_of(frame, format, 0);
  const int to_lower = format.flags & AV_PIX_FMT_FLAG_BE ? 1 : -1;
  std::vector<uint8_t> rgb(int64_t{frame.height} * frame.width * 3);
  uint8_t* out = rgb.data();
  for (int64_t y = 0; y < frame.height; ++y) {
    const uint8_t* in = upper.data + y * upper.stride;
    for (int64_t x = 0; x < frame.width; ++x, in += upper.step, out += 3)
      out[0] = out[1] = out[2] = in[0] ? 255 : in[to_lower];
  }
  return rgb;
}

// Eight pixels a byte, the first in its highest bit.
std::vector<uint8_t> from_bits(const AVFrame& frame) {
  const uint8_t one = frame.format == AV_PIX_FMT_MONOWHITE ? 0 : 255;
  std::vector<uint8_t> rgb(int64_t{frame.height} * frame.width * 3);
  uint8_t* out = rgb.data();
  for (int64_t y = 0; y < frame.height; ++y) {
    const uint8_t* row = frame.data[0] + y * frame.linesize[0];
    for (int64_t x = 0; x < frame.width; ++x, out += 3) {
      const bool bit = row[x / 8] >> (7 - x % 8) & 1;
      out[0] = out[1] = out[2] = bit ? one : 255 - one;
    }
  }
  return rgb;
}

Yuv planes_of(const AVFrame& frame) {
  const auto plane = [&](int i, int shift) {
    return Plane{frame.data[i], frame.linesize[i], AV_CEIL_RSHIFT(frame.height, shift),
                 AV_CEIL_RSHIFT(frame.width, shift)};
  };
  return {plane(0, 0), plane(1, 1), plane(2, 1)};
}

}  // namespace

std::vector<uint8_t> frame_to_rgb(const AVFrame& frame, FileKind kind, const ImageHeader& header,
                                  const std::string& where) {
  const auto* format = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  const int depth = format ? format->comp[0].depth : 0;
  if (depth == 1 && format->nb_components == 1) return from_bits(frame);
  if (depth == 8 && (format->flags & AV_PIX_FMT_FLAG_PAL)) return from_palette(frame);
  if (depth == 8 || depth == 16) {
    if (header.deep_grey && depth == 16) return from_deep_grey(frame, *format);
    const bool is_grey = format->nb_components <= 2;
    if (is_grey || (format->flags & AV_PIX_FMT_FLAG_RGB)) {
      const auto colour = [&](int i) { return samples_of(frame, *format, is_grey ? 0 : i); };
      return interleave(frame, {colour(0), colour(1), colour(2)});
    }
    const bool is_half = format->log2_chroma_w == 1 && format->log2_chroma_h == 1;
    if (depth == 8 && kind == FileKind::kWebp && is_half) return webp_to_rgb(planes_of(frame));
  }
  bad_media(where, "pixels of a kind this program does not read (",
            format ? format->name : "unknown", ")");
}

}  // namespace veomni::media
