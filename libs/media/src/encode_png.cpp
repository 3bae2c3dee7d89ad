// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "av.h"
#include "veomni/base/error.h"
#include "veomni/media/image.h"

namespace veomni::media {

namespace {

av::Context open_png_encoder(const Image& image) {
  const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
  VEOMNI_CHECK(codec, "this FFmpeg was built without an encoder for PNG");
  av::Context encoder(avcodec_alloc_context3(codec));
  VEOMNI_CHECK(encoder, "out of memory for a PNG encoder");
  encoder->width = static_cast<int>(image.width);
  encoder->height = static_cast<int>(image.height);
  encoder->pix_fmt = AV_PIX_FMT_RGB24;
  encoder->time_base = {1, 1};
  encoder->thread_count = 1;
  av::open(*encoder);
  return encoder;
}

}  // namespace

std::vector<std::byte> encode_png(const Image& image) {
  // FFmpeg's own bound on a picture's sides.
  constexpr int64_t kMaxSide = 1 << 15;
  VEOMNI_CHECK(
      image.height > 0 && image.width > 0 && image.height <= kMaxSide && image.width <= kMaxSide,
      "encode_png: a side of ", image.width, " x ", image.height, " is not in [1, ", kMaxSide, "]");
  const int64_t row_bytes = 3 * image.width;
  VEOMNI_CHECK(image.rgb.size() == image.height * row_bytes, "encode_png: ", image.rgb.size(),
               " bytes are not ", image.height, " x ", image.width, " x 3");
  av::clear_messages();
  auto encoder = open_png_encoder(image);
  auto frame = av::make_frame();
  frame->format = AV_PIX_FMT_RGB24;
  frame->width = encoder->width;
  frame->height = encoder->height;
  VEOMNI_CHECK(av_frame_get_buffer(frame.get(), 0) >= 0, "encode_png: no memory for a frame");
  for (int64_t y = 0; y < image.height; ++y)
    std::memcpy(frame->data[0] + y * frame->linesize[0], image.rgb.data() + y * row_bytes,
                row_bytes);
  auto packet = av::make_packet();
  int error = avcodec_send_frame(encoder.get(), frame.get());
  if (error >= 0) error = avcodec_receive_packet(encoder.get(), packet.get());
  VEOMNI_CHECK(error >= 0, "encode_png: ", av::describe(error));
  const auto* bytes = reinterpret_cast<const std::byte*>(packet->data);
  return {bytes, bytes + packet->size};
}

}  // namespace veomni::media
