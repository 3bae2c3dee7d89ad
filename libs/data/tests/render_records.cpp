// SPDX-License-Identifier: Apache-2.0
// What tests/data compares with transformers' processors.
//   render_records TOKENIZER RECORDS OUT   {"ids", "labels", "position_ids": 3 rows} of each record, a line each.
// A media file says in words what it becomes (fake_processor.h); an answer's media need no decoder of its own.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "fake_processor.h"
#include "sample_maker.h"
#include "veomni/data/collator.h"
#include "veomni/data/source.h"

namespace veomni::data {
namespace {
nlohmann::json rows_of(const torch::Tensor& positions_3T) {
  nlohmann::json rows = nlohmann::json::array();
  for (int64_t axis = 0; axis < 3; ++axis) {
    const int64_t* row = positions_3T[axis].data_ptr<int64_t>();
    rows.push_back(std::vector<int64_t>(row, row + positions_3T.size(1)));
  }
  return rows;
}

void render(const std::string& tokenizer_path, const std::string& records,
            const std::string& out_file) {
  const Tokenizer tokenizer = Tokenizer::from_file(tokenizer_path);
  const SampleMaker maker({}, 1 << 20, tokenizer, fake_processors());
  const auto source = open_file_source({.path = records});
  std::ofstream out(out_file, std::ios::binary);
  for (int64_t i = 0; i < source->size(); ++i) {
    MicroBatch micro_batch;
    micro_batch.samples = maker.make(source->read(i), "records", {.record = i}).samples;
    const Batch batch = collate(micro_batch, 3);
    const Sample& sample = micro_batch.samples.at(0);
    out << nlohmann::json{{"ids", sample.ids},
                          {"labels", sample.labels},
                          {"position_ids", rows_of(batch.position_ids_T)}}
               .dump()
        << '\n';
  }
}
}  // namespace
}  // namespace veomni::data

int main(int argc, char** argv) {
  try {
    if (argc != 4) {
      std::cerr << "usage: render_records TOKENIZER RECORDS OUT\n";
      return 2;
    }
    veomni::data::render(argv[1], argv[2], argv[3]);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
