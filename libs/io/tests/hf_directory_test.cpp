// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/hf_directory.h"
#include "test_files.h"
#include "veomni/io/json_fields.h"

namespace veomni::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(HfDirectory, GivesConfigWeightsAndOptionalFiles) {
  const ScratchDir dir;
  put_file(dir / "config.json",
           R"({"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3","hidden_size":64})");
  auto model = HfDirectory::open(dir.path());
  EXPECT_THAT(model.architectures(), ElementsAre("Qwen3ForCausalLM"));
  EXPECT_EQ(model.model_type(), "qwen3");
  EXPECT_EQ(require_int(model.config(), "hidden_size", model.config_path()), 64);
  EXPECT_FALSE(model.has_weights());
  EXPECT_FALSE(model.tokenizer_json().has_value());
  EXPECT_THAT(message_of<ConfigError>([&] { model.weights(); }), HasSubstr("holds neither"));

  const std::vector<uint8_t> one = {1};
  write_safetensors(dir / "model.safetensors",
                    std::vector<TensorEntry>{{"w", DType::U8, {1}, bytes_of(one)}});
  put_file(dir / "tokenizer.json", "{}");
  EXPECT_TRUE(model.has_weights());
  EXPECT_EQ(model.weights().at("w").bytes, 1u);
  EXPECT_EQ(model.tokenizer_json(), dir / "tokenizer.json");
  EXPECT_FALSE(model.generation_config().has_value());
}

TEST(HfDirectory, BrokenDirectoriesAreTheUsersMistake) {
  const ScratchDir dir;
  const auto open_error = [](const std::string& path) {
    return message_of<ConfigError>([&] { HfDirectory::open(path); });
  };
  EXPECT_THAT(open_error(dir / "gone"), HasSubstr("gone does not exist"));
  EXPECT_THAT(open_error(dir.path()), HasSubstr("holds no config.json"));
  put_file(dir / "config.json", "{\"hidden_size\": 64,\n \"layers\" 2}");
  EXPECT_THAT(open_error(dir.path()),
              HasSubstr("config.json: not valid JSON: parse error at line 2, column 11"));
  EXPECT_THAT(open_error(dir / "config.json"), HasSubstr("is not a directory"));
  put_file(dir / "config.json", "[]");
  EXPECT_THAT(open_error(dir.path()), HasSubstr("must be an object"));
  put_file(dir / "config.json", R"({"architectures": "Qwen3"})");
  EXPECT_THAT(open_error(dir.path()), HasSubstr("'architectures' must be a list, is \"Qwen3\""));
  put_file(dir / "config.json", R"({"model_type": 3})");
  EXPECT_THAT(open_error(dir.path()), HasSubstr("'model_type' must be a string, is 3"));
}

TEST(JsonFields, GettersCheckTypes) {
  const auto object = parse_json(
      R"({"i":3,"d":0.5,"b":true,"s":"x","n":null,"o":{},"a":[1],"huge":9223372036854775808})",
      "f");
  EXPECT_EQ(require_int(object, "i", "f"), 3);
  EXPECT_EQ(require_double(object, "i", "f"), 3.0);
  EXPECT_EQ(require_double(object, "d", "f"), 0.5);
  EXPECT_TRUE(require_bool(object, "b", "f"));
  EXPECT_EQ(require_string(object, "s", "f"), "x");
  EXPECT_TRUE(require_object(object, "o", "f").empty());
  EXPECT_EQ(require_array(object, "a", "f").size(), 1u);
  EXPECT_THAT(message_of<ConfigError>([&] { require_int(object, "d", "f"); }),
              HasSubstr("f: 'd' must be a whole number, is 0.5"));
  EXPECT_THAT(message_of<ConfigError>([&] { require_int(object, "huge", "f"); }),
              HasSubstr("whole number"));
  EXPECT_THAT(message_of<ConfigError>([&] { require_int(object, "gone", "f"); }),
              HasSubstr("f: 'gone' is missing"));
  EXPECT_THAT(message_of<ConfigError>([&] { require_object(object, "a", "f"); }),
              HasSubstr("is a list of 1"));
  EXPECT_THAT(message_of<ConfigError>([&] { require_int(object["a"], "x", "f"); }),
              HasSubstr("needs an object with 'x'"));
}

TEST(JsonFields, DefaultsStandForAbsentAndNull) {
  const auto object = parse_json(R"({"i":3,"n":null,"s":"x"})", "f");
  EXPECT_EQ(get_or(object, "i", 7, "f"), 3);
  EXPECT_EQ(get_or(object, "n", 7, "f"), 7);
  EXPECT_EQ(get_or(object, "gone", 0.5, "f"), 0.5);
  EXPECT_EQ(get_or(object, "gone", true, "f"), true);
  EXPECT_EQ(get_or(object, "s", "y", "f"), "x");
  EXPECT_EQ(get_or(object, "gone", std::string("y"), "f"), "y");
  EXPECT_THROW(get_or(object, "s", 7, "f"), ConfigError);
}

}  // namespace
}  // namespace veomni::io
