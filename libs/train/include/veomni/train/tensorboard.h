// SPDX-License-Identifier: Apache-2.0
/// Scalars as TensorBoard reads them: `tensorboard --logdir <output>`.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "veomni/train/metrics.h"

namespace veomni {

class AppendFile;

/// Writes `events.out.tfevents.<unix seconds>.<host>`: TFRecord framing (length, masked CRC-32C, data, masked CRC-32C)
/// around Event messages with scalar Summary values, encoded by hand from the field numbers of TensorFlow's
/// event.proto and summary.proto (a protobuf library would clash with the one inside libtorch).
class TensorBoardWriter {
 public:
  /// @param dir          made where missing; a second writer in the same second gets a file of its own
  /// @param resume_step  the checkpoint the run goes on from: TensorBoard then drops what an earlier file holds of
  ///                     later steps
  /// @throws Error naming the file, here and below
  explicit TensorBoardWriter(const std::string& dir, std::optional<int64_t> resume_step = {});
  ~TensorBoardWriter();

  void add_scalar(const std::string& tag, double value, int64_t step);

  /// Every number of a step: "train/loss", "train/lr", … and those of `more` under their own names. Numbers that were
  /// not measured are left out; a loss or gradient norm that is not finite is written as it is.
  void add(const StepMetrics& metrics);

  const std::string& path() const;

 private:
  void write_event(int64_t step, std::string_view fields);
  std::unique_ptr<AppendFile> file_;
};

}  // namespace veomni
