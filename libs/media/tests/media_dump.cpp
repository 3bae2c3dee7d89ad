// SPDX-License-Identifier: Apache-2.0
// What tests/media compares with Pillow and libsndfile. Writes a line of facts and the raw values to stdout; exits with 1
// and the reason on stderr when a file is refused. Of several files, what is written follows one another.
//   media_dump FILE...                  "HEIGHT WIDTH", then RGB bytes
//   media_dump FILE... --resize H W...  the same of the picture resized to each of the sizes
//   media_dump FILE... --png            the picture as a PNG, nothing else
//   media_dump FILE... --rate N         "RATE SAMPLES", then floats
//   media_dump FILE... --wav N          the sound as a WAV, nothing else
#include <algorithm>
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

void dump(const std::string& path, const std::string& command,
          const std::vector<std::string>& numbers) {
  const auto file = read_file(path);
  if (command.empty()) {
    write(decode_image(file, path));
  } else if (command == "--resize") {
    const auto image = decode_image(file, path);
    for (size_t i = 0; i < numbers.size(); i += 2)
      write(resize_bicubic(image, std::stoll(numbers.at(i)), std::stoll(numbers.at(i + 1))));
  } else if (command == "--png") {
    write(encode_png(decode_image(file, path)));
  } else if (command == "--rate") {
    write(decode_audio(file, path, std::stoll(numbers.at(0))));
  } else if (command == "--wav") {
    write(encode_wav(decode_audio(file, path, std::stoll(numbers.at(0)))));
  } else {
    throw_error("unknown command '" + command + "'");
  }
}

void run(const std::vector<std::string>& args) {
  const auto command =
      std::find_if(args.begin(), args.end(), [](const auto& arg) { return arg.starts_with("--"); });
  VEOMNI_CHECK(command != args.begin(), "usage: see the head of media_dump.cpp");
  const bool has_command = command != args.end();
  const std::vector<std::string> numbers(has_command ? command + 1 : command, args.end());
  for (auto path = args.begin(); path != command; ++path)
    dump(*path, has_command ? *command : "", numbers);
}

}  // namespace
}  // namespace veomni::media

int main(int argc, char** argv) {
  try {
    veomni::media::run({argv + 1, argv + argc});
    return 0;
  } catch (const veomni::media::BadMedia& refusal) {
    std::cerr << refusal.what() << '\n';
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "not a refusal: " << error.what() << '\n';
    return 2;
  }
}
