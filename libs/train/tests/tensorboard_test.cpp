// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "report/event_encoding.h"
#include "veomni/base/error.h"

namespace veomni {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using testing::ThrowsMessage;

// RFC 3720 (iSCSI), appendix B.4, and the customary check value.
TEST(Crc32c, MatchesThePublishedValues) {
  std::string rising(32, '\0');
  for (int i = 0; i < 32; ++i) rising[i] = static_cast<char>(i);
  EXPECT_EQ(events::crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(events::crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(events::crc32c(rising), 0x46dd794eu);
  EXPECT_EQ(events::crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(events::crc32c(""), 0u);
}

// Examples of the Protocol Buffers encoding guide.
TEST(WireFormat, MatchesTheEncodingGuide) {
  EXPECT_EQ(events::varint_field(1, 150), "\x08\x96\x01");
  EXPECT_EQ(events::bytes_field(2, "testing"), "\x12\x07testing");
  EXPECT_EQ(events::varint_field(1, ~uint64_t{0}), "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
}

// A decoder of its own, so that the encoder is not checked against itself.
struct Field {
  uint64_t varint = 0;
  std::string bytes;  ///< of length-delimited and fixed-width fields
  template <typename T> T as() const {
    T value;
    EXPECT_EQ(bytes.size(), sizeof(T));
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
};
using Message = std::multimap<int, Field>;

uint64_t take_varint(std::string_view& in) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(in.at(0));
    in.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

Message decode(std::string_view in) {
  Message message;
  while (!in.empty()) {
    const uint64_t key = take_varint(in);
    Field field;
    if ((key & 7) == 0) {
      field.varint = take_varint(in);
    } else {
      const size_t size = (key & 7) == 2 ? take_varint(in) : (key & 7) == 1 ? 8 : 4;
      field.bytes = std::string(in.substr(0, size));
      in.remove_prefix(size);
    }
    message.emplace(static_cast<int>(key >> 3), field);
  }
  return message;
}

uint32_t unmask(uint32_t masked) {
  const uint32_t rotated = masked - 0xa282ead8u;
  return rotated >> 17 | rotated << 15;
}

template <typename T> T take(std::string_view& in) {
  T value;
  std::memcpy(&value, in.data(), sizeof(T));
  in.remove_prefix(sizeof(T));
  return value;
}

std::vector<Message> read_events(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  const std::string text = out.str();
  std::vector<Message> all;
  for (std::string_view in = text; !in.empty();) {
    const auto length_bytes = in.substr(0, 8);
    const auto length = take<uint64_t>(in);
    EXPECT_EQ(unmask(take<uint32_t>(in)), events::crc32c(length_bytes));
    const auto data = in.substr(0, length);
    in.remove_prefix(length);
    EXPECT_EQ(unmask(take<uint32_t>(in)), events::crc32c(data));
    all.push_back(decode(data));
  }
  return all;
}

std::map<std::string, float> scalars(const Message& event) {
  std::map<std::string, float> by_tag;
  const Message summary = decode(event.find(5)->second.bytes);
  for (const auto& [number, field] : summary) {
    EXPECT_EQ(number, 1);
    const Message value = decode(field.bytes);
    by_tag[value.find(1)->second.bytes] = value.find(2)->second.as<float>();
  }
  return by_tag;
}

class TensorBoardTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = testing::TempDir() + "veomni_tensorboard_" + std::to_string(::getpid());
    std::filesystem::remove_all(dir_);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string dir_;
};

TEST_F(TensorBoardTest, ScalarsDecode) {
  TensorBoardWriter writer(dir_);
  writer.add_scalar("eval/loss", 2.5, 300);
  EXPECT_THAT(std::filesystem::path(writer.path()).filename().string(),
              StartsWith("events.out.tfevents."));
  const auto all = read_events(writer.path());  // before the writer ends: every event is flushed
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].find(3)->second.bytes, "brain.Event:2");
  EXPECT_GT(all[0].find(1)->second.as<double>(), 1.7e9) << "wall time in unix seconds";
  EXPECT_EQ(all[1].find(2)->second.varint, 300u);
  EXPECT_EQ(scalars(all[1]), (std::map<std::string, float>{{"eval/loss", 2.5f}}));
}

TEST_F(TensorBoardTest, AStepsNumbersShareOneEventAndUnknownOnesAreLeftOut) {
  StepMetrics m;
  m.step = 7;
  m.loss = std::nan("");
  m.grad_norm = 1.5;
  m.lr = 0.25;
  m.tokens = 4096;
  m.more = {{"loss/wiki", 3.0}};
  TensorBoardWriter writer(dir_);
  writer.add(m);
  const auto all = read_events(writer.path());
  ASSERT_EQ(all.size(), 2u);
  auto found = scalars(all[1]);
  ASSERT_TRUE(found.contains("train/loss"));
  EXPECT_TRUE(std::isnan(found["train/loss"])) << "a diverged loss must show";
  found.erase("train/loss");
  EXPECT_EQ(found, (std::map<std::string, float>{{"train/grad_norm", 1.5f},
                                                 {"train/lr", 0.25f},
                                                 {"train/tokens", 4096.0f},
                                                 {"loss/wiki", 3.0f}}));
}

TEST_F(TensorBoardTest, ResumeStartsASessionAfterTheCheckpoint) {
  TensorBoardWriter writer(dir_, 40);
  const auto all = read_events(writer.path());
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[1].find(2)->second.varint, 41u);
  EXPECT_EQ(decode(all[1].find(7)->second.bytes).find(1)->second.varint, 1u) << "SessionLog.START";
}

TEST_F(TensorBoardTest, TwoWritersNeverShareAFile) {
  TensorBoardWriter first(dir_), second(dir_);
  EXPECT_NE(first.path(), second.path());
}

TEST_F(TensorBoardTest, ADirectoryThatCannotBeMadeIsNamed) {
  std::ofstream(dir_) << "a file in the way";
  EXPECT_THAT([&] { TensorBoardWriter writer(dir_ + "/tb"); },
              ThrowsMessage<Error>(HasSubstr(dir_ + "/tb")));
}

}  // namespace
}  // namespace veomni
