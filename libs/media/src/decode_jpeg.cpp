// SPDX-License-Identifier: Apache-2.0
#include "decode_jpeg.h"

#include <turbojpeg.h>

#include <memory>
#include <string_view>

#include "bad_media.h"

namespace veomni::media {

namespace {

struct Destroy {
  void operator()(void* decoder) const { tjDestroy(decoder); }
};

// Bytes between two markers that belong to neither harm no pixel; every other warning does.
bool is_harmless(void* decoder) {
  return tjGetErrorCode(decoder) == TJERR_WARNING &&
         std::string_view(tjGetErrorStr2(decoder)).find("extraneous bytes") !=
             std::string_view::npos;
}

void decode(std::span<const std::byte> file, const ImageHeader& header, TJPF format, uint8_t* out,
            const std::string& where) {
  const std::unique_ptr<void, Destroy> decoder(tjInitDecompress());
  if (!decoder)
    throw Error("libjpeg-turbo does not start: " + std::string(tjGetErrorStr2(nullptr)));
  // Zero pitch: rows without a gap.
  const int error =
      tjDecompress2(decoder.get(), reinterpret_cast<const unsigned char*>(file.data()), file.size(),
                    out, static_cast<int>(header.width), 0, static_cast<int>(header.height), format,
                    TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS);
  if (error != 0 && !is_harmless(decoder.get()))
    bad_media(where, "a JPEG that does not decode: ", tjGetErrorStr2(decoder.get()));
}

// a * b / 255, rounded.
int times_255(int a, int b) {
  const int product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

}  // namespace

std::vector<uint8_t> decode_jpeg(std::span<const std::byte> file, const ImageHeader& header,
                                 const std::string& where) {
  const int64_t pixels = header.height * header.width;
  std::vector<uint8_t> rgb(pixels * 3);
  if (header.channels != 4) {
    decode(file, header, TJPF_RGB, rgb.data(), where);
    return rgb;
  }
  std::vector<uint8_t> cmyk(pixels * 4);
  decode(file, header, TJPF_CMYK, cmyk.data(), where);
  for (int64_t i = 0; i < pixels; ++i) {
    const uint8_t* ink = cmyk.data() + 4 * i;  // stored inverted: 255 is no ink
    for (int c = 0; c < 3; ++c)
      rgb[3 * i + c] = static_cast<uint8_t>(ink[3] - times_255(255 - ink[c], ink[3]));
  }
  return rgb;
}

}  // namespace veomni::media
