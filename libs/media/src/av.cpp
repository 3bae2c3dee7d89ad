// SPDX-License-Identifier: Apache-2.0
#include "av.h"

extern "C" {
#include <libavutil/log.h>
}

#include <array>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "veomni/base/error.h"

namespace veomni::media::av {

namespace {

thread_local std::string first_complaint;

void keep_complaint(void*, int level, const char* format, va_list args) {
  if (level > AV_LOG_ERROR || !first_complaint.empty()) return;
  std::array<char, 256> line;
  std::vsnprintf(line.data(), line.size(), format, args);
  first_complaint = line.data();
  while (!first_complaint.empty() &&
         (first_complaint.back() == '\n' || first_complaint.back() == '.'))
    first_complaint.pop_back();
}

// FFmpeg would write to the standard error stream; what it says belongs in our error's text.
void catch_messages() {
  static std::once_flag once;
  std::call_once(once, [] { av_log_set_callback(keep_complaint); });
}

}  // namespace

Frame make_frame() {
  Frame frame(av_frame_alloc());
  VEOMNI_CHECK(frame, "out of memory for a decoded frame");
  return frame;
}

Packet make_packet() {
  Packet packet(av_packet_alloc());
  VEOMNI_CHECK(packet, "out of memory for a packet");
  return packet;
}

Packet make_packet(std::span<const std::byte> bytes) {
  auto packet = make_packet();
  const bool made = bytes.size() < (size_t{1} << 31) - AV_INPUT_BUFFER_PADDING_SIZE &&
                    av_new_packet(packet.get(), static_cast<int>(bytes.size())) == 0;
  VEOMNI_CHECK(made, "no memory for a packet of ", bytes.size(), " bytes");
  if (!bytes.empty()) std::memcpy(packet->data, bytes.data(), bytes.size());
  return packet;
}

Context make_decoder(AVCodecID id, const char* name) {
  catch_messages();
  const AVCodec* codec = avcodec_find_decoder(id);
  VEOMNI_CHECK(codec, "this FFmpeg was built without a decoder for ", name);
  Context context(avcodec_alloc_context3(codec));
  VEOMNI_CHECK(context, "out of memory for a ", name, " decoder");
  // Loader threads are the parallelism; and messages reach only the thread that decodes.
  context->thread_count = 1;
  context->err_recognition = AV_EF_EXPLODE | AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER;
  return context;
}

void open(AVCodecContext& context) {
  const int error = avcodec_open2(&context, nullptr, nullptr);
  VEOMNI_CHECK(error >= 0, "FFmpeg's decoder ", context.codec->name,
               " does not start: ", describe(error));
}

void clear_messages() {
  catch_messages();
  first_complaint.clear();
}

const std::string& complaint() { return first_complaint; }

std::string describe(int error) {
  std::array<char, AV_ERROR_MAX_STRING_SIZE> text{};
  av_strerror(error, text.data(), text.size());
  return first_complaint.empty() ? text.data()
                                 : std::string(text.data()) + " (" + first_complaint + ")";
}

}  // namespace veomni::media::av
