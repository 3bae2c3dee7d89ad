// SPDX-License-Identifier: Apache-2.0
/// Owners of FFmpeg's objects, and its messages. Compiles with FFmpeg 4.4 to 7.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/frame.h>
}

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace veomni::media::av {

struct Free {
  void operator()(AVFrame* frame) const { av_frame_free(&frame); }
  void operator()(AVPacket* packet) const { av_packet_free(&packet); }
  void operator()(AVCodecContext* context) const { avcodec_free_context(&context); }
};
using Frame = std::unique_ptr<AVFrame, Free>;
using Packet = std::unique_ptr<AVPacket, Free>;
using Context = std::unique_ptr<AVCodecContext, Free>;

/// @throws Error when there is no memory
Frame make_frame();
Packet make_packet();
/// A packet with a copy of `bytes`, padded as decoders need it.
Packet make_packet(std::span<const std::byte> bytes);

/// A decoder of this thread alone that refuses damaged data, not yet open.
/// @param name  of the format, for the message
/// @throws Error if this FFmpeg was built without it
Context make_decoder(AVCodecID id, const char* name);
/// @throws Error
void open(AVCodecContext& context);

/// A file in memory, read through one of FFmpeg's demuxers.
class MemoryInput {
 public:
  /// @param file  must outlive this
  explicit MemoryInput(std::span<const std::byte> file) : file_(file) {}
  MemoryInput(const MemoryInput&) = delete;
  MemoryInput& operator=(const MemoryInput&) = delete;
  ~MemoryInput();

  /// Reads the file's header. Returns FFmpeg's code, negative on failure.
  /// @throws Error if this FFmpeg was built without such a demuxer
  int open(const char* demuxer);
  /// nullptr before a successful open().
  AVFormatContext* format() { return format_; }

 private:
  static int read(void* self, uint8_t* out, int size);
  static int64_t seek(void* self, int64_t offset, int whence);

  std::span<const std::byte> file_;
  size_t at_ = 0;
  AVIOContext* io_ = nullptr;
  AVFormatContext* format_ = nullptr;
};

int num_channels(const AVFrame& frame);

/// Forgets what FFmpeg said on this thread before.
void clear_messages();
/// FFmpeg's first complaint since then, or "".
const std::string& complaint();
/// FFmpeg's code in words, with that complaint.
std::string describe(int error);

}  // namespace veomni::media::av
