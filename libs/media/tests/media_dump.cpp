// SPDX-License-Identifier: Apache-2.0
// What tests/media compares with Pillow and FFmpeg. Writes a line of facts and the raw values to stdout; exits with 1 and
// the reason on stderr when the file is refused.
//   media_dump FILE                "HEIGHT WIDTH", then RGB bytes
//   media_dump FILE --resize H W   the same of the resized picture
//   media_dump FILE --png          the picture as a PNG, nothing else
//   media_dump FILE --rate N       "RATE SAMPLES", then floats
//   media_dump FILE --wav N        the sound as a WAV, nothing else
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "veomni/media/audio.h"
#include "veomni/media/image.h"
#include "veomni/media/processor.h"

namespace veomni::media {
namespace {

using Bytes = std::vector<std::byte>;

Bytes read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return {bytes, bytes + text.size()};
}

template <typename T> void write(const std::vector<T>& values) {
  std::cout.write(reinterpret_cast<const char*>(values.data()),
                  static_cast<std::streamsize>(values.size() * sizeof(T)));
}

void write(const Image& image) {
  std::cout << image.height << ' ' << image.width << '\n';
  write(image.rgb);
}

void write(const Audio& audio) {
  std::cout << audio.sample_rate << ' ' << audio.samples.size() << '\n';
  write(audio.samples);
}

void dump(const std::vector<std::string>& args) {
  const std::string command = args.size() > 1 ? args[1] : "";
  VEOMNI_CHECK(!args.empty(), "usage: see the head of media_dump.cpp");
  const auto file = read_file(args[0]);
  if (command.empty()) {
    write(decode_image(file, args[0]));
  } else if (command == "--resize") {
    write(resize_bicubic(decode_image(file, args[0]), std::stoll(args.at(2)),
                         std::stoll(args.at(3))));
  } else if (command == "--png") {
    write(encode_png(decode_image(file, args[0])));
  } else if (command == "--rate") {
    write(decode_audio(file, args[0], std::stoll(args.at(2))));
  } else if (command == "--wav") {
    write(encode_wav(decode_audio(file, args[0], std::stoll(args.at(2)))));
  } else {
    throw_error("unknown command '" + command + "'");
  }
}

}  // namespace
}  // namespace veomni::media

int main(int argc, char** argv) {
  try {
    veomni::media::dump({argv + 1, argv + argc});
    return 0;
  } catch (const veomni::media::BadMedia& refusal) {
    std::cerr << refusal.what() << '\n';
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "not a refusal: " << error.what() << '\n';
    return 2;
  }
}
