// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/resource.h>

#include "test_files.h"
#include "veomni/io/safetensors.h"

namespace veomni::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<float> kFloats = {1.5f, -2.0f, 3.25f, 0.0f, 7.0f, 8.0f};
const std::vector<uint8_t> kBytes = {1, 2, 3};

std::vector<TensorEntry> entries() {
  return {{"mask", DType::U8, {3}, bytes_of(kBytes)},
          {"w", DType::F32, {2, 3}, bytes_of(kFloats)},
          {"none", DType::BF16, {0, 4}, {}}};
}

TEST(SafetensorsFile, WhatIsWrittenIsRead) {
  const ScratchDir dir;
  write_safetensors(dir / "w.safetensors", entries(), {{"format", "pt"}, {"quote\"", "line\n"}},
                    {.fsync = true});
  const SafetensorsFile file(dir / "w.safetensors");
  EXPECT_THAT(file.names(), ElementsAre("w", "none", "mask"));  // falling item size
  EXPECT_EQ(file.metadata().at("quote\""), "line\n");
  const TensorView w = file.tensor("w");
  EXPECT_EQ(w.dtype, DType::F32);
  EXPECT_THAT(w.shape, ElementsAre(2, 3));
  EXPECT_EQ(std::memcmp(w.bytes.data(), kFloats.data(), w.bytes.size()), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(w.bytes.data()) % 8, 0u);
  EXPECT_EQ(file.tensor("none").bytes.size(), 0u);
  EXPECT_EQ(file.tensor("mask").bytes[2], std::byte{3});
  EXPECT_THAT(dir.names(), ElementsAre("w.safetensors"));
}

TEST(SafetensorsFile, HeaderIsPaddedWithSpaces) {
  const ScratchDir dir;
  for (const char* name : {"a", "ab", "abc", "abcd", "abcde", "abcdef", "abcdefg", "abcdefgh"}) {
    write_safetensors(dir / "w",
                      std::vector<TensorEntry>{{name, DType::U8, {3}, bytes_of(kBytes)}});
    const std::string text = file_text(dir / "w");
    const SafetensorsFile file(dir / "w");
    EXPECT_EQ(file.data_begin() % 8, 0u);
    EXPECT_EQ(text.substr(0, file.data_begin()).find_last_not_of(' '), text.rfind('}'));
    EXPECT_EQ(text.size(), file.data_begin() + 3);
  }
}

TEST(SafetensorsFile, UnknownTensorNamesTheNearest) {
  const ScratchDir dir;
  write_safetensors(dir / "w",
                    std::vector<TensorEntry>{{"lm_head.weight", DType::U8, {3}, bytes_of(kBytes)}});
  const SafetensorsFile file(dir / "w");
  const std::string message = message_of([&] { file.tensor("lm_head.wight"); });
  EXPECT_THAT(message, HasSubstr(dir / "w"));
  EXPECT_THAT(message, HasSubstr("'lm_head.wight'; did you mean lm_head.weight"));
}

TEST(SafetensorsFile, EveryTruncationIsRefused) {
  const ScratchDir dir;
  write_safetensors(dir / "w", entries());
  const std::string whole = file_text(dir / "w");
  for (size_t size = 0; size < whole.size(); ++size) {
    put_file(dir / "cut", whole.substr(0, size));
    EXPECT_THROW(SafetensorsFile(dir / "cut"), Error) << size;
  }
  put_file(dir / "cut", whole.substr(0, whole.size() - 1));
  EXPECT_THAT(message_of([&] { SafetensorsFile(dir / "cut"); }), HasSubstr("truncated?"));
  put_file(dir / "long", whole + "x");
  EXPECT_THROW(SafetensorsFile(dir / "long"), Error);
}

TEST(SafetensorsFile, MissingFilesAndDirectoriesAreTheUsersMistake) {
  const ScratchDir dir;
  EXPECT_THAT(message_of<ConfigError>([&] { SafetensorsFile(dir / "gone"); }),
              HasSubstr("No such file"));
  EXPECT_THAT(message_of<ConfigError>([&] { SafetensorsFile(dir.path()); }),
              HasSubstr("not a regular file"));
}

TEST(SafetensorsWriter, TakesPiecesInAnyOrder) {
  const ScratchDir dir;
  SafetensorsWriter writer(dir / "w", {{"w", DType::F32, {2, 3}}, {"mask", DType::U8, {3}}});
  EXPECT_THAT(dir.names(), ElementsAre("w.tmp"));
  writer.write("mask", bytes_of(kBytes));
  writer.write("w", bytes_of(kFloats).subspan(10), 10);
  EXPECT_THAT(message_of([&] { writer.finish(); }), HasSubstr("14 of 24 bytes of tensor 'w'"));
  writer.write("w", bytes_of(kFloats).subspan(0, 10), 0);
  writer.finish();
  EXPECT_EQ(std::memcmp(SafetensorsFile(dir / "w").tensor("w").bytes.data(), kFloats.data(), 24),
            0);
}

TEST(SafetensorsWriter, MisuseIsRefused) {
  const ScratchDir dir;
  SafetensorsWriter writer(dir / "w", {{"w", DType::F32, {2}}});
  EXPECT_THAT(message_of([&] { writer.write("v", {}); }), HasSubstr("'v' was not declared"));
  EXPECT_THAT(message_of([&] { writer.write("w", bytes_of(kFloats)); }),
              HasSubstr("outside tensor 'w'"));
  EXPECT_THAT(message_of([&] { writer.write("w", {}, 9); }), HasSubstr("outside"));
  const auto make = [&](std::vector<TensorDecl> tensors, Metadata metadata = {}) {
    SafetensorsWriter(dir / "x", std::move(tensors), metadata);
  };
  EXPECT_THAT(message_of([&] {
                make({{"a", DType::U8, {1}}, {"a", DType::U8, {1}}});
              }),
              HasSubstr("'a' twice"));
  EXPECT_THAT(message_of([&] {
                make({{"__metadata__", DType::U8, {1}}});
              }),
              HasSubstr("cannot be named"));
  EXPECT_THAT(message_of([&] { make({{"a\xff", DType::U8, {1}}}); }), HasSubstr("not UTF-8"));
  EXPECT_THAT(message_of([&] { make({}, {{"k", "\xff"}}); }), HasSubstr("not UTF-8"));
  EXPECT_THAT(message_of([&] { make({{"a", DType::U8, {-1}}}); }), HasSubstr("negative"));
  EXPECT_THAT(message_of([&] { make({{"a", DType::F64, {INT64_MAX}}}); }), HasSubstr("overflows"));
}

TEST(SafetensorsWriter, AnUnfinishedWriterLeavesNothingAndKeepsTheOldFile) {
  const ScratchDir dir;
  put_file(dir / "w", "old");
  {
    SafetensorsWriter writer(dir / "w", {{"mask", DType::U8, {3}}});
    writer.write("mask", bytes_of(kBytes));
  }
  EXPECT_THAT(dir.names(), ElementsAre("w"));
  EXPECT_EQ(file_text(dir / "w"), "old");
}

TEST(SafetensorsWriter, MissingDirectoryIsNamed) {
  const ScratchDir dir;
  const std::string message = message_of([&] { write_safetensors(dir / "no/w", entries()); });
  EXPECT_THAT(message, HasSubstr("no/w.tmp: No such file or directory"));
}

TEST(SafetensorsWriter, AFullDiskIsNamed) {
  ASSERT_TRUE(std::filesystem::exists("/dev/full"));
  const std::string message =
      message_of([&] { write_safetensors("/dev/full", entries(), {}, {.atomic = false}); });
  EXPECT_THAT(message, HasSubstr("cannot write /dev/full: No space left on device"));
  EXPECT_TRUE(std::filesystem::exists("/dev/full"));
}

/// The process may write no file larger than this while the object lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    handler_ = ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit now{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  sighandler_t handler_;
};

TEST(SafetensorsWriter, ADiskThatFillsUpMidwayLeavesNoHalfFile) {
  const ScratchDir dir;
  put_file(dir / "w", "old");
  const std::vector<uint8_t> large(1 << 20);
  const std::vector<TensorEntry> entry = {{"large", DType::U8, {1 << 20}, bytes_of(large)}};
  std::string message;
  {
    const FileSizeLimit limit(64 << 10);
    message = message_of([&] { write_safetensors(dir / "w", entry); });
  }
  EXPECT_THAT(message, HasSubstr("cannot write " + (dir / "w.tmp") + ": File too large"));
  EXPECT_THAT(dir.names(), ElementsAre("w"));
  EXPECT_EQ(file_text(dir / "w"), "old");
}

}  // namespace
}  // namespace veomni::io
