// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "in_quotes.h"
#include "veomni/base/error.h"
#include "veomni/io/safetensors.h"

namespace veomni::io {

static_assert(std::endian::native == std::endian::little,
              "safetensors data is little-endian and is read in place");

namespace {

constexpr char kMetadataKey[] = "__metadata__";

/// Takes the header's events one by one: nothing is built that the header does not need, and duplicate
/// keys are seen (a DOM keeps the last one silently).
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderHandler(SafetensorsHeader& header, const std::string& where)
      : header_(header), where_(where) {}

  bool start_object(std::size_t) override {
    switch (state_) {
      case State::kStart: state_ = State::kTop; return true;
      case State::kMetadataValue: state_ = State::kMetadata; return true;
      case State::kTensorValue:
        state_ = State::kTensor;
        fields_ = 0;
        return true;
      default: unexpected("an object");
    }
  }

  bool key(string_t& name) override {
    if (state_ == State::kTop) {
      start_entry(name);
    } else if (state_ == State::kMetadata) {
      metadata_key_ = std::move(name);
    } else {
      start_field(name);
    }
    return true;
  }

  bool end_object() override {
    if (state_ == State::kTensor) {
      for (const auto& [field, bit] : kFields) {
        check((fields_ & bit) != 0, "has no '", field, "'");
      }
      state_ = State::kTop;
    } else if (state_ == State::kMetadata) {
      state_ = State::kTop;
    } else {
      state_ = State::kDone;
    }
    return true;
  }

  bool string(string_t& text) override {
    if (state_ == State::kMetadata) {
      const bool fresh = header_.metadata.emplace(metadata_key_, std::move(text)).second;
      VEOMNI_CHECK(fresh, where_, ": __metadata__ has the key ", in_quotes(metadata_key_),
                   " twice");
      return true;
    }
    if (state_ != State::kDtype) unexpected("a string");
    const auto dtype = dtype_from_name(text);
    check(dtype.has_value(), "has the unsupported dtype ", in_quotes(text),
          " (supported: ", dtype_names(), ")");
    tensor().dtype = *dtype;
    state_ = State::kTensor;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ == State::kShapeValue) {
      state_ = State::kShape;
    } else if (state_ == State::kOffsetsValue) {
      state_ = State::kOffsets;
      offsets_ = 0;
    } else {
      unexpected("a list");
    }
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kShape) {
      check(value <= INT64_MAX, "has the dim ", value, ", which overflows");
      tensor().shape.push_back(static_cast<int64_t>(value));
    } else if (state_ == State::kOffsets) {
      check(offsets_ < 2, "has more than two data_offsets");
      (offsets_++ == 0 ? tensor().begin : tensor().end) = value;
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool end_array() override {
    if (state_ == State::kOffsets) check(offsets_ == 2, "needs two data_offsets");
    state_ = State::kTensor;
    return true;
  }

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    unexpected("a number that is no 64-bit integer");
  }
  bool binary(binary_t&) override { unexpected("binary"); }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    // what() repeats the text it stumbled on, which may be megabytes of a broken header.
    throw_error(where_ + ": the header is not valid JSON at its byte " + std::to_string(position) +
                ": " + in_quotes(error.what()));
  }

 private:
  enum class State {
    kStart,          // nothing read
    kTop,            // between entries
    kMetadataValue,  // after "__metadata__":
    kMetadata,       // inside it
    kTensorValue,    // after a tensor's name
    kTensor,         // inside its object
    kDtype,          // after "dtype":
    kShapeValue,     // after "shape":
    kShape,          // inside its list
    kOffsetsValue,   // after "data_offsets":
    kOffsets,        // inside its list
    kDone
  };
  static constexpr std::pair<const char*, int> kFields[] = {
      {"dtype", 1}, {"shape", 2}, {"data_offsets", 4}};

  TensorInfo& tensor() { return header_.tensors.back(); }

  void start_entry(string_t& name) {
    if (name == kMetadataKey) {
      VEOMNI_CHECK(!seen_metadata_, where_, ": the header has __metadata__ twice");
      seen_metadata_ = true;
      state_ = State::kMetadataValue;
      return;
    }
    VEOMNI_CHECK(header_.tensors.size() < kMaxTensors, where_, ": the header has more than ",
                 kMaxTensors, " tensors");
    header_.tensors.emplace_back().name = std::move(name);
    state_ = State::kTensorValue;
  }

  void start_field(const string_t& name) {
    const auto* field = std::find_if(std::begin(kFields), std::end(kFields),
                                     [&](const auto& row) { return name == row.first; });
    // A field we do not know may change what the bytes mean.
    check(field != std::end(kFields), "has the unknown field ", in_quotes(name));
    check((fields_ & field->second) == 0, "has '", name, "' twice");
    fields_ |= field->second;
    constexpr State kNext[] = {State::kDtype, State::kShapeValue, State::kOffsetsValue};
    state_ = kNext[field - std::begin(kFields)];
  }

  template <typename... Args> void check(bool ok, const Args&... problem) {
    if (!ok)
      throw_error(detail::concat(where_, ": tensor ", in_quotes(tensor().name), " ", problem...));
  }

  [[noreturn]] void unexpected(const char* what) {
    std::string place = "the header";
    if (state_ == State::kMetadataValue || state_ == State::kMetadata) place = "__metadata__";
    if (state_ >= State::kTensorValue && state_ < State::kDone) {
      place = "tensor " + in_quotes(tensor().name);
    }
    const char* wanted = "an object";
    if (state_ == State::kMetadata) wanted = "strings only";
    if (state_ == State::kDtype) wanted = "dtype as a string";
    if (state_ == State::kShapeValue || state_ == State::kShape)
      wanted = "shape as a list of sizes";
    if (state_ >= State::kOffsetsValue) wanted = "data_offsets as two byte offsets";
    throw_error(detail::concat(where_, ": ", place, " has ", what, ", needs ", wanted));
  }

  SafetensorsHeader& header_;
  const std::string& where_;
  State state_ = State::kStart;
  std::string metadata_key_;
  bool seen_metadata_ = false;
  int fields_ = 0, offsets_ = 0;
};

/// Bytes of a tensor, or nothing on overflow.
std::optional<uint64_t> shape_bytes(DType dtype, std::span<const int64_t> shape) {
  uint64_t count = 1;
  for (const int64_t dim : shape) {
    if (dim < 0 || __builtin_mul_overflow(count, static_cast<uint64_t>(dim), &count)) return {};
  }
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(count, static_cast<uint64_t>(item_size(dtype)), &bytes)) return {};
  return bytes;
}

void check_extent(const TensorInfo& tensor, uint64_t data_bytes, const std::string& where) {
  const auto bytes = shape_bytes(tensor.dtype, tensor.shape);
  const std::string what = where + ": tensor " + in_quotes(tensor.name);
  VEOMNI_CHECK(tensor.begin <= tensor.end, what, " ends before it begins (data_offsets ",
               tensor.begin, ", ", tensor.end, ")");
  VEOMNI_CHECK(bytes.has_value(), what, ": the shape ", in_quotes(shape_text(tensor.shape)),
               " overflows");
  VEOMNI_CHECK(*bytes == tensor.end - tensor.begin, what, ": ", dtype_name(tensor.dtype), " ",
               in_quotes(shape_text(tensor.shape)), " takes ", *bytes, " bytes, data_offsets give ",
               tensor.end - tensor.begin);
  VEOMNI_CHECK(tensor.end <= data_bytes, what, " ends at byte ", tensor.end,
               " of the data, the file has ", data_bytes, " (truncated?)");
}

/// Tensors in data order must follow each other without a hole, up to the last byte.
void check_coverage(const std::vector<TensorInfo>& tensors, uint64_t data_bytes,
                    const std::string& where) {
  uint64_t covered = 0;
  for (const TensorInfo& tensor : tensors) {
    const char* problem =
        tensor.begin < covered ? " overlaps the tensor before it" : " leaves a gap before it";
    VEOMNI_CHECK(tensor.begin == covered, where, ": tensor ", in_quotes(tensor.name), problem,
                 " (begins at byte ", tensor.begin, ", expected ", covered, ")");
    covered = tensor.end;
  }
  VEOMNI_CHECK(covered == data_bytes, where, ": the tensors cover ", covered,
               " bytes of data, the file has ", data_bytes);
}

/// Sorts the names and refuses one given twice.
void index_by_name(SafetensorsHeader& header, const std::string& where) {
  auto& order = header.by_name;
  const auto& tensors = header.tensors;
  order.resize(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return tensors[a].name < tensors[b].name; });
  const auto twice = std::adjacent_find(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return tensors[a].name == tensors[b].name;
  });
  VEOMNI_CHECK(twice == order.end(), where, ": the header names tensor ",
               in_quotes(tensors[*twice].name), " twice");
}

}  // namespace

const TensorInfo* SafetensorsHeader::find(std::string_view name) const {
  const auto found = std::lower_bound(
      by_name.begin(), by_name.end(), name,
      [this](uint32_t index, std::string_view n) { return tensors[index].name < n; });
  if (found == by_name.end() || tensors[*found].name != name) return nullptr;
  return &tensors[*found];
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> header_json,
                                           uint64_t data_bytes, const std::string& where) {
  VEOMNI_CHECK(header_json.size() <= kMaxHeaderBytes, where, ": the header takes ",
               header_json.size(), " bytes, at most ", kMaxHeaderBytes, " are allowed");
  const auto* text = reinterpret_cast<const char*>(header_json.data());
  VEOMNI_CHECK(!header_json.empty() && text[0] == '{', where,
               ": the header does not begin with '{': not a safetensors file");
  // The JSON reader would take a NUL for the end of its input.
  const void* nul = std::memchr(text, 0, header_json.size());
  VEOMNI_CHECK(nul == nullptr, where, ": the header holds a NUL byte (padding must be spaces)");

  SafetensorsHeader header;
  HeaderHandler handler(header, where);
  nlohmann::json::sax_parse(text, text + header_json.size(), &handler);
  for (const TensorInfo& tensor : header.tensors) check_extent(tensor, data_bytes, where);
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  index_by_name(header, where);
  check_coverage(header.tensors, data_bytes, where);
  return header;
}

SafetensorsLayout parse_safetensors(std::span<const std::byte> file, const std::string& where) {
  VEOMNI_CHECK(file.size() >= 8, where, ": ", file.size(),
               " bytes is too short for a safetensors file (truncated?)");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), 8);
  VEOMNI_CHECK(header_bytes <= kMaxHeaderBytes, where, ": the header claims ", header_bytes,
               " bytes, at most ", kMaxHeaderBytes,
               " are allowed: not a safetensors file, or damaged");
  const uint64_t rest = file.size() - 8;
  VEOMNI_CHECK(header_bytes <= rest, where, ": the header claims ", header_bytes,
               " bytes, the file has ", rest, " after the length (truncated?)");
  const auto header_json = file.subspan(8, header_bytes);
  return {parse_safetensors_header(header_json, rest - header_bytes, where), 8 + header_bytes};
}

uint64_t TensorDecl::num_bytes() const {
  const auto bytes = shape_bytes(dtype, shape);
  VEOMNI_CHECK(bytes.has_value(), "tensor ", in_quotes(name), ": the shape ", shape_text(shape),
               " is negative or overflows");
  return *bytes;
}

}  // namespace veomni::io
