// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "in_quotes.h"
#include "veomni/base/error.h"
#include "veomni/io/tensor_rule.h"

namespace veomni::io {

namespace {

/// The part's place in the index, its shape checked.
const TensorLocation& locate(const ParamParts& param, const FilePart& part,
                             const SafetensorsIndex& index) {
  const TensorLocation* found = index.find(part.tensor);
  VEOMNI_CHECK(found != nullptr, index.where(), " has no tensor ", in_quotes(part.tensor),
               " of shape ", shape_text(part.shape), ", which parameter ", in_quotes(param.param),
               " needs");
  VEOMNI_CHECK(found->shape == part.shape, index.where(), ": tensor ", in_quotes(part.tensor),
               " has shape ", shape_text(found->shape), ", parameter ", in_quotes(param.param), " ",
               shape_text(param.shape), " needs ", shape_text(part.shape));
  return *found;
}

/// "a [2, 3], b [4] and 7 more"
class Leftovers {
 public:
  void add(const std::string& name, std::span<const int64_t> shape) {
    constexpr size_t kShown = 10;
    if (++count_ <= kShown)
      text_ += (text_.empty() ? "" : ", ") + in_quotes(name) + " " + shape_text(shape);
    else
      more_ = " and " + std::to_string(count_ - kShown) + " more";
  }
  bool empty() const { return count_ == 0; }
  std::string text() const { return text_ + more_; }

 private:
  size_t count_ = 0;
  std::string text_, more_;
};

/// Calls visit(part, first element in the part, first element in the shard, length) for each stretch of the
/// shard that lies in one part, in the shard's order.
template <typename Visit>
void for_each_stretch(const ParamParts& param, const ShardSpec& mine, Visit visit) {
  VEOMNI_CHECK(mine.full_shape == param.shape, "parameter ", in_quotes(param.param), " has shape ",
               shape_text(param.shape), ", its shard is of ", shape_text(mine.full_shape));
  for (const ElementRun& run : element_runs(mine)) {
    // The last part that begins at or before the run; empty parts before it begin there too.
    auto part = std::upper_bound(param.parts.begin(), param.parts.end(), run.full_begin,
                                 [](int64_t at, const FilePart& p) { return at < p.begin; }) -
                1;
    int64_t at = run.full_begin;
    const int64_t end = run.full_begin + run.length;
    for (; at < end; ++part) {
      const int64_t length = std::min(end, part->begin + num_elements(part->shape)) - at;
      if (length > 0) visit(*part, at - part->begin, run.local_begin + at - run.full_begin, length);
      at += length;
    }
  }
}

class ReadDescriptor {
 public:
  explicit ReadDescriptor(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    VEOMNI_CHECK(fd_ >= 0, "cannot open ", path, ": ", std::strerror(errno));
  }
  ~ReadDescriptor() { ::close(fd_); }
  ReadDescriptor(const ReadDescriptor&) = delete;
  ReadDescriptor& operator=(const ReadDescriptor&) = delete;

  void read(uint64_t offset, std::span<std::byte> dest) const {
    while (!dest.empty()) {
      const ssize_t got = ::pread(fd_, dest.data(), std::min<size_t>(dest.size(), 1 << 30),
                                  static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      VEOMNI_CHECK(got >= 0, "cannot read ", path_, ": ", std::strerror(errno));
      VEOMNI_CHECK(got > 0, path_, " ends at byte ", offset,
                   ": it was truncated after it was opened");
      dest = dest.subspan(static_cast<size_t>(got));
      offset += static_cast<uint64_t>(got);
    }
  }

 private:
  const std::string& path_;
  int fd_;
};

}  // namespace

void check_complete(const std::vector<ParamParts>& params, const SafetensorsIndex& index,
                    const RuleSet& rules) {
  Leftovers missing, unused;
  std::set<std::string_view> taken;
  for (const ParamParts& param : params) {
    for (const FilePart& part : param.parts) {
      taken.insert(part.tensor);
      if (index.find(part.tensor) == nullptr) missing.add(part.tensor, part.shape);
    }
  }
  for (const auto& [name, location] : index.tensors()) {
    if (taken.count(name) == 0 && !rules.ignores(name)) unused.add(name, location.shape);
  }
  std::string problem;
  if (!missing.empty()) problem = " lacks tensors that the model needs: " + missing.text();
  if (!unused.empty()) {
    problem += (problem.empty() ? "" : ";") + std::string(" holds tensors that no rule takes: ") +
               unused.text();
  }
  VEOMNI_CHECK(problem.empty(), index.where(), problem);
  for (const ParamParts& param : params) {
    for (const FilePart& part : param.parts) locate(param, part, index);
  }
}

ReadPlan plan_read(const ParamParts& param, const SafetensorsIndex& index, const ShardSpec& mine) {
  ReadPlan plan;
  for (const FilePart& part : param.parts) {
    const DType dtype = locate(param, part, index).dtype;
    if (&part == &param.parts.front()) plan.dtype = dtype;
    VEOMNI_CHECK(dtype == plan.dtype, index.where(), ": parameter ", in_quotes(param.param),
                 " is made of tensors of ", dtype_name(plan.dtype), " and, ",
                 in_quotes(part.tensor), ", of ", dtype_name(dtype));
  }
  const auto size = static_cast<uint64_t>(item_size(plan.dtype));
  plan.bytes = static_cast<uint64_t>(mine.local_numel()) * size;
  for_each_stretch(
      param, mine, [&](const FilePart& part, int64_t in_part, int64_t in_shard, int64_t length) {
        const TensorLocation& location = *index.find(part.tensor);
        const uint64_t offset = location.offset + static_cast<uint64_t>(in_part) * size;
        const uint64_t bytes = static_cast<uint64_t>(length) * size;
        if (!plan.ranges.empty()) {
          ByteRange& last = plan.ranges.back();
          if (last.file == location.file && last.file_offset + last.length == offset) {
            last.length += bytes;
            return;
          }
        }
        plan.ranges.push_back(
            {location.file, offset, bytes, static_cast<uint64_t>(in_shard) * size});
      });
  return plan;
}

std::vector<WriteRange> plan_write(const ParamParts& param, DType dtype, const ShardSpec& mine) {
  const auto size = static_cast<uint64_t>(item_size(dtype));
  std::vector<WriteRange> ranges;
  for_each_stretch(param, mine,
                   [&](const FilePart& part, int64_t in_part, int64_t in_shard, int64_t length) {
                     ranges.push_back({part.tensor, static_cast<uint64_t>(in_part) * size,
                                       static_cast<uint64_t>(length) * size,
                                       static_cast<uint64_t>(in_shard) * size});
                   });
  return ranges;
}

std::vector<TensorDecl> declare(const ParamParts& param, DType dtype) {
  std::vector<TensorDecl> tensors;
  for (const FilePart& part : param.parts) tensors.push_back({part.tensor, dtype, part.shape});
  return tensors;
}

void read_planned(const ReadPlan& plan, std::span<std::byte> dest) {
  VEOMNI_CHECK(dest.size() == plan.bytes, "a buffer of ", dest.size(), " bytes for a plan of ",
               plan.bytes);
  for (size_t i = 0; i < plan.ranges.size();) {
    const std::string& path = plan.ranges[i].file;
    const ReadDescriptor file(path);
    for (; i < plan.ranges.size() && plan.ranges[i].file == path; ++i) {
      const ByteRange& range = plan.ranges[i];
      file.read(range.file_offset, dest.subspan(range.dest_offset, range.length));
    }
  }
}

}  // namespace veomni::io
