// SPDX-License-Identifier: Apache-2.0
// What tests/tokenizer compares with the `tokenizers` package. Texts come as JSON strings, one a line.
//   tokenize_lines encode TOKENIZER TEXTS OUT       ids of each text, separated by spaces
//   tokenize_lines decode TOKENIZER IDS OUT         each line of ids as a JSON string, special tokens kept
//   tokenize_lines chat TEMPLATE TOKENIZER TALKS OUT  ids of each conversation, a JSON list of messages a line
//   tokenize_lines train STYLE VOCAB_SIZE TEXTS OUT   trains a tokenizer.json
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "veomni/base/error.h"
#include "veomni/data/bpe_trainer.h"
#include "veomni/data/chat_template.h"
#include "veomni/data/tokenizer.h"

namespace veomni::data {
namespace {
std::ifstream open_in(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  VEOMNI_CHECK_CONFIG(in.good(), file, ": cannot be read");
  return in;
}

void write_ids(std::ofstream& out, const std::vector<int32_t>& ids) {
  for (size_t i = 0; i < ids.size(); ++i) out << (i ? " " : "") << ids[i];
  out << '\n';
}

void encode(const Tokenizer& tokenizer, const std::string& texts, std::ofstream& out) {
  std::ifstream in = open_in(texts);
  for (std::string line; std::getline(in, line);) {
    write_ids(out, tokenizer.encode(nlohmann::json::parse(line).get<std::string>()));
  }
}

void decode(const Tokenizer& tokenizer, const std::string& ids_file, std::ofstream& out) {
  std::ifstream in = open_in(ids_file);
  for (std::string line; std::getline(in, line);) {
    std::vector<int32_t> ids;
    std::istringstream numbers(line);
    for (int32_t id; numbers >> id;) ids.push_back(id);
    out << nlohmann::json(tokenizer.decode(ids, false)).dump() << '\n';
  }
}

void chat(const ChatTemplate& chat_template, const std::string& talks, std::ofstream& out) {
  std::ifstream in = open_in(talks);
  for (std::string line; std::getline(in, line);) {
    std::vector<Message> messages;
    for (const auto& message : nlohmann::json::parse(line)) {
      messages.push_back(
          {message.at("role").get<std::string>(), message.at("content").get<std::string>()});
    }
    write_ids(out, chat_template.render(messages).ids);
  }
}

void train(const std::string& style, int64_t vocab_size, const std::string& texts,
           std::ofstream& out) {
  std::ifstream in = open_in(texts);
  const TextIterator next = [&]() -> std::optional<std::string> {
    std::string line;
    if (!std::getline(in, line)) return std::nullopt;
    return nlohmann::json::parse(line).get<std::string>();
  };
  out << io::write_tokenizer_json(train_bpe(next, {.vocab_size = vocab_size, .style = style}));
}

int run(const std::vector<std::string>& args) {
  const size_t expected = args.empty() ? 0 : args[0] == "chat" || args[0] == "train" ? 5 : 4;
  VEOMNI_CHECK_CONFIG(args.size() == expected && expected > 0,
                      "usage: see the head of tokenize_lines.cpp");
  std::ofstream out(args.back(), std::ios::binary);
  VEOMNI_CHECK_CONFIG(out.good(), args.back(), ": cannot be written");
  if (args[0] == "encode") {
    encode(Tokenizer::from_file(args[1]), args[2], out);
  } else if (args[0] == "decode") {
    decode(Tokenizer::from_file(args[1]), args[2], out);
  } else if (args[0] == "chat") {
    chat(*make_chat_template(args[1], Tokenizer::from_file(args[2])), args[3], out);
  } else if (args[0] == "train") {
    train(args[1], std::stoll(args[2]), args[3], out);
  } else {
    throw_config_error("unknown command '" + args[0] + "'");
  }
  out.close();
  VEOMNI_CHECK(out.good(), args.back(), ": could not be written");
  return 0;
}
}  // namespace
}  // namespace veomni::data

int main(int argc, char** argv) {
  try {
    return veomni::data::run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 2;
  }
}
