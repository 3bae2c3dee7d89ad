// SPDX-License-Identifier: Apache-2.0
#include "av.h"

extern "C" {
#include <libavutil/log.h>
}

#include <algorithm>
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

MemoryInput::~MemoryInput() {
  avformat_close_input(&format_);
  // FFmpeg may have replaced the buffer it was given.
  if (io_) av_freep(&io_->buffer);
  avio_context_free(&io_);
}

int MemoryInput::read(void* self, uint8_t* out, int size) {
  auto& input = *static_cast<MemoryInput*>(self);
  const size_t count = std::min<size_t>(size, input.file_.size() - input.at_);
  if (count == 0) return AVERROR_EOF;
  std::memcpy(out, input.file_.data() + input.at_, count);
  input.at_ += count;
  return static_cast<int>(count);
}

int64_t MemoryInput::seek(void* self, int64_t offset, int whence) {
  auto& input = *static_cast<MemoryInput*>(self);
  const auto size = static_cast<int64_t>(input.file_.size());
  whence &= ~AVSEEK_FORCE;
  if (whence == AVSEEK_SIZE) return size;
  const int64_t base = whence == SEEK_CUR   ? static_cast<int64_t>(input.at_)
                       : whence == SEEK_END ? size
                                            : 0;
  if (offset < -base || offset > size - base) return AVERROR(EINVAL);
  input.at_ = static_cast<size_t>(base + offset);
  return base + offset;
}

int MemoryInput::open(const char* demuxer) {
  catch_messages();
  // auto: before FFmpeg 5 what it points to is not const, and avformat_open_input() wants it so.
  auto* input_format = av_find_input_format(demuxer);
  VEOMNI_CHECK(input_format, "this FFmpeg was built without its demuxer ", demuxer);
  constexpr int kBufferBytes = 1 << 15;
  auto* buffer = static_cast<uint8_t*>(av_malloc(kBufferBytes));
  if (buffer) io_ = avio_alloc_context(buffer, kBufferBytes, 0, this, read, nullptr, seek);
  if (!io_) av_free(buffer);
  format_ = avformat_alloc_context();
  VEOMNI_CHECK(io_ && format_, "out of memory for the demuxer ", demuxer);
  format_->pb = io_;
  return avformat_open_input(&format_, "", input_format, nullptr);
}

int num_channels(const AVFrame& frame) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(57, 28, 100)
  return frame.ch_layout.nb_channels;
#else
  return frame.channels;
#endif
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
