// SPDX-License-Identifier: Apache-2.0
/// The recipe's `data` section.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "veomni/base/fields.h"

namespace veomni::data {

struct SourceOptions {
  std::string name;
  std::string path;
  double weight = 1.0;
  std::string format = "auto";
  std::string loss = "text";
  double drop_condition = 0;
};

template <typename Visitor> void visit_fields(Visitor& v, SourceOptions& o) {
  v("name", o.name, "its name in metrics and messages; default: the path");
  v("path", o.path, "a file, a directory or a glob");
  v("weight", o.weight, "share of the records drawn from it, relative to the other sources",
    at_least(0.0));
  v("format", o.format, "how its files are read; auto goes by the file's name",
    one_of({"auto", "jsonl", "text_lines", "text_paragraphs"}));
  v("loss", o.loss,
    "the loss its text targets count in; losses are averaged each by itself and added with "
    "train.loss_weights");
  v("drop_condition", o.drop_condition,
    "share of its conversations whose text is left out but for the assistant's, so that generation "
    "can use guidance",
    between(0, 1));
}

/// What stands for a picture or clip in a sequence: begin, then pad as often as its model wants, then end.
struct MediaTokens {
  std::string begin, pad, end;
};

template <typename Visitor> void visit_fields(Visitor& v, MediaTokens& o) {
  v("begin", o.begin, "the token before one; empty: none (a target needs one)");
  v("pad", o.pad, "the token that stands for each of its embeddings");
  v("end", o.end, "the token behind one; empty: none");
}

/// By modality; the defaults are those of Qwen2-VL and Qwen2.5-Omni.
struct MediaOptions {
  MediaTokens image{"<|vision_start|>", "<|image_pad|>", "<|vision_end|>"};
  MediaTokens audio{"<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>"};
};

template <typename Visitor> void visit_fields(Visitor& v, MediaOptions& o) {
  v("image", o.image, "tokens of pictures");
  v("audio", o.audio, "tokens of sound");
}

struct DataOptions {
  std::vector<SourceOptions> sources;
  std::string tokenizer;
  std::string chat_template = "qwen";
  bool append_eos = true;
  bool shuffle = true;
  std::string on_bad_record = "skip";
  int64_t max_sample_tokens = 0;
  std::string long_sample = "truncate";
  int64_t max_record_bytes = 64 << 20;
  int64_t max_media_bytes = int64_t{1} << 30;
  MediaOptions media;
  int64_t decode_threads = 2;
  int64_t open_bins = 8;
  int64_t prefetch = 2;
};

template <typename Visitor> void visit_fields(Visitor& v, DataOptions& o) {
  v("sources", o.sources, "where records come from, mixed by weight");
  v("tokenizer", o.tokenizer,
    "a tokenizer.json or a directory with one; default: the model's directory");
  v("template", o.chat_template, "how a conversation is written: qwen, plain");
  v("append_eos", o.append_eos, "end a plain text with the tokenizer's end token, if it has one");
  v("shuffle", o.shuffle, "a new order of the records in every epoch");
  v("on_bad_record", o.on_bad_record, "count and name a record that cannot be used, or stop",
    one_of({"skip", "fail"}));
  v("max_sample_tokens", o.max_sample_tokens,
    "longest sample in tokens; 0: train.micro_batch_tokens", at_least(0));
  v("long_sample", o.long_sample,
    "what becomes of a longer one: cut at the right (never inside a picture or clip), cut into "
    "several (plain text; conversations are cut at the right), or left out",
    one_of({"truncate", "split", "skip"}));
  v("max_record_bytes", o.max_record_bytes, "a longer record is bad", at_least(1));
  v("max_media_bytes", o.max_media_bytes, "a record with a longer media file is bad", at_least(1));
  v("media", o.media, "the tokens that stand for media");
  v("decode_threads", o.decode_threads,
    "threads that read and decode media ahead of the step; 0: done by the one that packs",
    between(0, 256));
  v("open_bins", o.open_bins, "micro-batches that are filled at the same time while packing",
    at_least(1));
  v("prefetch", o.prefetch, "steps prepared ahead by a thread; 0: none, no thread", at_least(0));
}

}  // namespace veomni::data
