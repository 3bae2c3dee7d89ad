// SPDX-License-Identifier: Apache-2.0
/// The bytes of TensorBoard's event files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace veomni::events {

/// CRC-32C (Castagnoli: polynomial 0x1EDC6F41, reflected, inverted before and after).
uint32_t crc32c(std::string_view bytes);

/// One TFRecord: uint64 length, masked CRC of it, the data, masked CRC of the data; little-endian.
std::string record(std::string_view data);

// Protocol Buffers wire format, one field each.
std::string varint_field(int number, uint64_t value);
std::string double_field(int number, double value);
std::string float_field(int number, float value);
std::string bytes_field(int number, std::string_view bytes);

}  // namespace veomni::events
