// SPDX-License-Identifier: Apache-2.0
#include <ctime>

#include "test_files.h"
#include "veomni/io/safetensors.h"

namespace veomni::io {
namespace {

using ::testing::HasSubstr;

SafetensorsHeader parse(const std::string& json, uint64_t data_bytes) {
  return parse_safetensors_header(as_bytes(json), data_bytes, "w.safetensors");
}

TEST(SafetensorsHeader, GivesTensorsInDataOrderAndMetadata) {
  const auto header = parse(R"({"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},)"
                            R"("__metadata__":{"format":"pt"},)"
                            R"("a":{"data_offsets":[0,4],"shape":[],"dtype":"I32"}}   )",
                            28);
  ASSERT_EQ(header.tensors.size(), 2u);
  EXPECT_EQ(header.tensors[0], (TensorInfo{"a", DType::I32, {}, 0, 4}));
  EXPECT_EQ(header.tensors[1], (TensorInfo{"b", DType::F32, {2, 3}, 4, 28}));
  EXPECT_EQ(header.metadata, (Metadata{{"format", "pt"}}));
  EXPECT_EQ(header.find("b"), &header.tensors[1]);
  EXPECT_EQ(header.find("c"), nullptr);
}

TEST(SafetensorsHeader, EmptyTensorsAndEmptyFilesAreLegal) {
  EXPECT_TRUE(parse("{}", 0).tensors.empty());
  const auto header = parse(R"({"full":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                            R"("none":{"dtype":"F64","shape":[0,7],"data_offsets":[4,4]},)"
                            R"("void":{"dtype":"F16","shape":[3,0],"data_offsets":[0,0]}})",
                            4);
  EXPECT_EQ(header.find("none")->shape, (std::vector<int64_t>{0, 7}));
}

TEST(SafetensorsHeader, EveryDtypeHasItsSize) {
  const std::pair<const char*, int> sizes[] = {{"F64", 8}, {"F32", 4}, {"BF16", 2}, {"F16", 2},
                                               {"I64", 8}, {"I32", 4}, {"I16", 2},  {"I8", 1},
                                               {"U8", 1},  {"BOOL", 1}};
  for (const auto& [name, size] : sizes) {
    const auto dtype = dtype_from_name(name);
    ASSERT_TRUE(dtype.has_value()) << name;
    EXPECT_EQ(item_size(*dtype), size);
    EXPECT_STREQ(dtype_name(*dtype), name);
  }
  EXPECT_FALSE(dtype_from_name("f32").has_value());
}

struct BadHeader {
  const char* name;
  std::string json;
  uint64_t data_bytes;
  const char* complaint;
};

class BadHeaders : public ::testing::TestWithParam<BadHeader> {};

TEST_P(BadHeaders, AreRefusedByName) {
  const BadHeader& bad = GetParam();
  const std::string message = message_of([&] { parse(bad.json, bad.data_bytes); });
  EXPECT_THAT(message, HasSubstr("w.safetensors"));
  EXPECT_THAT(message, HasSubstr(bad.complaint));
}

std::string tensor(const std::string& name, const std::string& shape, const std::string& offsets,
                   const std::string& dtype = "F32") {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
         offsets + "}";
}

INSTANTIATE_TEST_SUITE_P(
    SafetensorsHeader, BadHeaders,
    ::testing::Values(
        BadHeader{"Overlap",
                  "{" + tensor("a", "[2]", "[0,8]") + "," + tensor("b", "[1]", "[4,8]") + "}", 8,
                  "tensor 'b' overlaps"},
        BadHeader{"SameRange",
                  "{" + tensor("a", "[2]", "[0,8]") + "," + tensor("b", "[2]", "[0,8]") + "}", 8,
                  "overlaps"},
        BadHeader{"GapInside",
                  "{" + tensor("a", "[1]", "[0,4]") + "," + tensor("b", "[1]", "[8,12]") + "}", 12,
                  "tensor 'b' leaves a gap"},
        BadHeader{"GapAtStart", "{" + tensor("a", "[1]", "[4,8]") + "}", 8, "leaves a gap"},
        BadHeader{"GapAtEnd", "{" + tensor("a", "[1]", "[0,4]") + "}", 5,
                  "cover 4 bytes of data, the file has 5"},
        BadHeader{"DataWithoutTensors", "{}", 1, "cover 0 bytes"},
        BadHeader{"OutsideTheFile", "{" + tensor("a", "[2]", "[0,8]") + "}", 7,
                  "'a' ends at byte 8"},
        BadHeader{"EndsBeforeItBegins", "{" + tensor("a", "[1]", "[4,0]") + "}", 4,
                  "ends before it begins"},
        BadHeader{"SizeLies", "{" + tensor("a", "[3]", "[0,8]") + "}", 8,
                  "takes 12 bytes, data_offsets give 8"},
        BadHeader{"ProductOverflows", "{" + tensor("a", "[4294967296,4294967296]", "[0,0]") + "}",
                  0, "overflows"},
        BadHeader{"BytesOverflow", "{" + tensor("a", "[4611686018427387904]", "[0,0]") + "}", 0,
                  "overflows"},
        BadHeader{"DimOverflows", "{" + tensor("a", "[18446744073709551615]", "[0,0]") + "}", 0,
                  "overflows"},
        BadHeader{"DimBeyond64Bits", "{" + tensor("a", "[18446744073709551616]", "[0,0]") + "}", 0,
                  "64-bit"},
        BadHeader{"NegativeDim", "{" + tensor("a", "[-1]", "[0,4]") + "}", 4, "negative"},
        BadHeader{"FloatDim", "{" + tensor("a", "[1.0]", "[0,4]") + "}", 4, "64-bit integer"},
        BadHeader{"OneOffset", "{" + tensor("a", "[1]", "[0]") + "}", 4, "needs two data_offsets"},
        BadHeader{"ThreeOffsets", "{" + tensor("a", "[1]", "[0,4,8]") + "}", 4, "more than two"},
        BadHeader{"NestedShape", "{" + tensor("a", "[[1]]", "[0,4]") + "}", 4,
                  "a list, needs shape"},
        BadHeader{"UnknownDtype", "{" + tensor("a", "[1]", "[0,1]", "F8_E4M3") + "}", 1,
                  "dtype 'F8_E4M3'"},
        BadHeader{"MissingDtype", R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4,
                  "'a' has no 'dtype'"},
        BadHeader{"MissingShape", R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4,
                  "'a' has no 'shape'"},
        BadHeader{"MissingOffsets", R"({"a":{"dtype":"F32","shape":[1]}})", 4,
                  "'a' has no 'data_offsets'"},
        BadHeader{"UnknownField", R"({"a":{"dtype":"F32","shape":[1],"order":"C"}})", 4,
                  "unknown field 'order'"},
        BadHeader{"FieldTwice", R"({"a":{"dtype":"F32","dtype":"F32"}})", 4, "'dtype' twice"},
        BadHeader{"NameTwice",
                  "{" + tensor("a", "[1]", "[0,4]") + "," + tensor("a", "[1]", "[4,8]") + "}", 8,
                  "names tensor 'a' twice"},
        BadHeader{"MetadataTwice", R"({"__metadata__":{},"__metadata__":{}})", 0,
                  "__metadata__ twice"},
        BadHeader{"MetadataKeyTwice", R"({"__metadata__":{"k":"1","k":"2"}})", 0, "'k' twice"},
        BadHeader{"MetadataNumber", R"({"__metadata__":{"k":1}})", 0, "strings only"},
        BadHeader{"MetadataNull", R"({"__metadata__":null})", 0, "__metadata__ has null"},
        BadHeader{"MetadataNested", R"({"__metadata__":{"k":{}}})", 0, "strings only"},
        BadHeader{"TensorIsAList", R"({"a":[1]})", 0, "'a' has a list"},
        BadHeader{"NotJson", "{\"a\": nope}", 0, "not valid JSON at its byte 8"},
        BadHeader{"Truncated", "{\"a\":{\"dtype\":\"F3", 0, "not valid JSON"},
        BadHeader{"TrailingText", "{} {}", 0, "not valid JSON"},
        BadHeader{"NotAnObject", "[]", 0, "does not begin with '{'"},
        BadHeader{"LeadingSpace", " {}", 0, "does not begin with '{'"},
        BadHeader{"Empty", "", 0, "does not begin with '{'"},
        BadHeader{"NulPadding", std::string("{}\0\0", 4), 0, "NUL byte (padding must be spaces)"},
        BadHeader{"NotUtf8", "{\"a\xff\":1}", 0, "not valid JSON"}),
    [](const auto& info) { return info.param.name; });

TEST(SafetensorsHeader, AHugeNameDoesNotFloodTheMessage) {
  const std::string json = "{" + tensor(std::string(1 << 20, 'n'), "[1]", "[0,5]") + "}";
  EXPECT_LT(message_of([&] { parse(json, 5); }).size(), 500u);
  const std::string broken = "{\"" + std::string(1 << 20, 'n');
  EXPECT_LT(message_of([&] { parse(broken, 5); }).size(), 500u);
}

/// A header of `count` tensors of one byte each, in reverse data order.
std::string many_tensors(size_t count) {
  std::string json = "{";
  for (size_t i = 0; i < count; ++i) {
    const size_t at = count - 1 - i;
    if (i > 0) json += ',';
    json += tensor("t" + std::to_string(i), "[1]",
                   "[" + std::to_string(at) + "," + std::to_string(at + 1) + "]", "U8");
  }
  return json + "}";
}

TEST(SafetensorsHeader, HundredThousandEntriesParseWithoutQuadraticWork) {
  const std::string json = many_tensors(100'000);
  const std::clock_t start = std::clock();
  EXPECT_EQ(parse(json, 100'000).tensors.size(), 100'000u);
  // Processor time, so that a busy machine does not matter: some 0.15 s, 0.6 s under sanitizers; quadratic
  // work takes 5e9 steps.
  EXPECT_LT(std::clock() - start, 10 * CLOCKS_PER_SEC);
}

TEST(SafetensorsHeader, MoreThanAMillionEntriesAreRefused) {
  std::string json = "{";
  for (size_t i = 0; i <= kMaxTensors; ++i) {
    if (i > 0) json += ',';
    json += "\"" + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  EXPECT_THAT(message_of([&] { parse(json + "}", 0); }), HasSubstr("more than 1000000 tensors"));
}

TEST(SafetensorsBytes, LengthPrefixIsChecked) {
  const auto parse_file = [](const std::string& bytes) {
    parse_safetensors(as_bytes(bytes), "w.safetensors");
  };
  EXPECT_THAT(message_of([&] { parse_file(""); }), HasSubstr("too short"));
  EXPECT_THAT(message_of([&] { parse_file("1234567"); }), HasSubstr("too short"));
  EXPECT_THAT(message_of([&] { parse_file(std::string(8, '\xff')); }),
              HasSubstr("at most 100000000"));
  std::string lying = safetensors_bytes("{}", 0);
  lying[0] = 3;
  EXPECT_THAT(message_of([&] { parse_file(lying); }), HasSubstr("claims 3 bytes, the file has 2"));
  EXPECT_NO_THROW(parse_file(safetensors_bytes("{}", 0)));
}

}  // namespace
}  // namespace veomni::io
