// SPDX-License-Identifier: Apache-2.0
#include "forward_input.h"

#include <algorithm>

#include "batch_input.h"
#include "veomni/base/error.h"
#include "veomni/base/log.h"
#include "veomni/base/names.h"
#include "veomni/io/safetensors.h"
#include "veomni/nn/dtype.h"

namespace veomni::train {

namespace {

constexpr int64_t kIgnored = -100;

// An integer tensor of input_ids' shape.
torch::Tensor read_like_ids(const io::SafetensorsFile& file, const std::string& name,
                            const torch::Tensor& ids_BS) {
  const auto tensor = read_tensor(file, name);
  VEOMNI_CHECK_CONFIG(tensor.sizes() == ids_BS.sizes(), file.path(), ": ", name, " has shape ",
                      io::shape_text(tensor.sizes()), ", input_ids ",
                      io::shape_text(ids_BS.sizes()));
  return tensor.to(torch::kLong);
}

// targets[b][s] = labels[b][s + 1]: what Hugging Face's causal loss counts.
torch::Tensor shift_labels(const torch::Tensor& labels_BS, const torch::Tensor& mask_BS,
                           const std::string& where) {
  auto targets_BS = torch::full_like(labels_BS, kIgnored);
  const int64_t S = labels_BS.size(1);
  if (S > 1) targets_BS.narrow(1, 0, S - 1).copy_(labels_BS.narrow(1, 1, S - 1));
  const auto orphans = (targets_BS != kIgnored) & (mask_BS == 0);
  VEOMNI_CHECK_CONFIG(
      !orphans.any().item<bool>(), where,
      ": a label follows a masked position, which predicts nothing; set it to -100");
  return targets_BS;
}

// position_ids [B, S], or [A, B, S] for a model of A axes.
torch::Tensor read_positions(const io::SafetensorsFile& file, const torch::Tensor& ids_BS,
                             int64_t axes) {
  const auto tensor = read_tensor(file, "position_ids");
  if (!tensor.defined()) return {};
  if (axes == 1) return read_like_ids(file, "position_ids", ids_BS).unsqueeze(0);
  const std::vector<int64_t> wanted = {axes, ids_BS.size(0), ids_BS.size(1)};
  VEOMNI_CHECK_CONFIG(tensor.sizes() == wanted, file.path(), ": position_ids has shape ",
                      io::shape_text(tensor.sizes()), ", this model wants ",
                      io::shape_text(wanted));
  return tensor.to(torch::kLong);
}

int64_t count_rows(const model::Grid& grid) { return grid[0] * grid[1] * grid[2]; }

}  // namespace

torch::Tensor read_tensor(const io::SafetensorsFile& file, const std::string& name) {
  if (!file.has(name)) return {};
  const auto view = file.tensor(name);
  const at::IntArrayRef shape(view.shape.data(), view.shape.size());
  return torch::from_blob(const_cast<std::byte*>(view.bytes.data()), shape,
                          torch::dtype(nn::torch_dtype(view.dtype)))
      .clone();
}

void note_unused(const io::SafetensorsFile& file, const std::vector<std::string>& known) {
  for (const auto& name : file.names()) {
    if (!std::count(known.begin(), known.end(), name))
      log::info("{}: {} is not needed and ignored", file.path(), name);
  }
}

std::vector<int64_t> first_rows(const std::vector<int64_t>& rows_of_item) {
  std::vector<int64_t> begin{0};
  for (int64_t rows : rows_of_item) begin.push_back(begin.back() + rows);
  return begin;
}

torch::Tensor take_rows(const torch::Tensor& all, const std::vector<int64_t>& rows_of_item,
                        const std::vector<int64_t>& items) {
  const auto begin = first_rows(rows_of_item);
  std::vector<torch::Tensor> parts{all.narrow(0, 0, 0)};
  for (int64_t item : items) parts.push_back(all.narrow(0, begin[item], rows_of_item[item]));
  return torch::cat(parts);
}

model::MediaInput ForwardMedia::take(const std::vector<int64_t>& index) const {
  if (index.empty()) return {};
  model::MediaInput input;
  input.features_PF = take_rows(features_PF, rows, index);
  for (int64_t i : index) input.grids.push_back(grids[i]);
  return input;
}

std::optional<ForwardMedia> read_encoder_media(const io::SafetensorsFile& file,
                                               const std::string& modality,
                                               const model::Encoder& encoder) {
  ForwardMedia media;
  torch::Tensor grids;
  std::string grid_name;
  if (modality == "audio") {
    auto features = read_tensor(file, "input_features");
    if (!features.defined()) return std::nullopt;
    grid_name = "feature_lens";
    const auto lengths = read_tensor(file, grid_name);
    VEOMNI_CHECK_CONFIG(features.dim() == 2 && lengths.defined() && lengths.dim() == 1, file.path(),
                        ": input_features must be [mels, frames of all clips] and come with "
                        "feature_lens [clips]");
    media.features_PF = features.t().contiguous();
    const auto ones = torch::ones({lengths.size(0)}, torch::kLong);
    grids = torch::stack({lengths.to(torch::kLong), ones, ones}, 1);
  } else {
    media.features_PF =
        read_tensor(file, file.has("hidden_states") ? "hidden_states" : "pixel_values");
    if (!media.features_PF.defined()) return std::nullopt;
    grid_name = file.has("grid_thw") ? "grid_thw" : "image_grid_thw";
    grids = read_tensor(file, grid_name);
    VEOMNI_CHECK_CONFIG(grids.defined() && grids.dim() == 2 && grids.size(1) == 3, file.path(),
                        ": pixel_values needs image_grid_thw [pictures, 3] beside it");
    grids = grids.to(torch::kLong).contiguous();
  }
  VEOMNI_CHECK_CONFIG(
      media.features_PF.dim() == 2 && media.features_PF.size(1) == encoder.feature_width(),
      file.path(), ": the ", modality, " encoder reads rows of ", encoder.feature_width(),
      " values, the file has ", io::shape_text(media.features_PF.sizes()));
  media.features_PF = media.features_PF.to(torch::kFloat);
  int64_t total = 0;
  for (int64_t i = 0; i < grids.size(0); ++i) {
    const auto* row = grids.const_data_ptr<int64_t>() + 3 * i;
    media.grids.push_back({row[0], row[1], row[2]});
    media.rows.push_back(count_rows(media.grids.back()));
    VEOMNI_CHECK_CONFIG(media.rows.back() > 0, file.path(), ": ", grid_name, "[", i,
                        "] has an extent that is not positive");
    total += media.rows.back();
  }
  VEOMNI_CHECK_CONFIG(total == media.features_PF.size(0), file.path(), ": ", grid_name,
                      " speaks of ", total, " rows, the features have ", media.features_PF.size(0));
  return media;
}

ForwardMedia read_decoder_media(const io::SafetensorsFile& file, const model::Decoder& decoder) {
  const auto pixels = read_tensor(file, "pixel_values");
  VEOMNI_CHECK_CONFIG(
      pixels.defined() && pixels.dim() == 4 && pixels.size(1) == decoder.feature_width(),
      file.path(), ": needs pixel_values [pictures, ", decoder.feature_width(), ", height, width]");
  const int64_t N = pixels.size(0), C = pixels.size(1), H = pixels.size(2), W = pixels.size(3);
  ForwardMedia media;
  media.features_PF = pixels.permute({0, 2, 3, 1}).reshape({N * H * W, C}).to(torch::kFloat);
  media.grids.assign(N, {C, H, W});
  media.rows.assign(N, H * W);
  return media;
}

int64_t ForwardInput::num_targets() const { return (targets_BS != kIgnored).sum().item<int64_t>(); }

ForwardInput read_forward_input(const std::string& path, model::OmniModel& model,
                                const nlohmann::json& config) {
  const io::SafetensorsFile file(path);
  const int64_t vocab_size = model.foundation().vocab_size();
  note_unused(file, {"input_ids", "attention_mask", "position_ids", "labels", "cotangent",
                     "pixel_values", "image_grid_thw", "input_features", "feature_lens"});
  VEOMNI_CHECK_CONFIG(file.has("input_ids"), path,
                      ": input_ids [B, S] is missing (it has: ", join(file.names()), ")");
  ForwardInput in;
  in.path = path;
  in.ids_BS = read_tensor(file, "input_ids").to(torch::kLong);
  VEOMNI_CHECK_CONFIG(in.ids_BS.dim() == 2, path, ": input_ids must be [B, S], got ",
                      io::shape_text(in.ids_BS.sizes()));
  in.mask_BS = file.has("attention_mask")
                   ? read_like_ids(file, "attention_mask", in.ids_BS).ne(0).to(torch::kLong)
                   : torch::ones_like(in.ids_BS);
  in.positions_ABS = read_positions(file, in.ids_BS, model.foundation().position_axes());
  const auto wrong = ((in.ids_BS < 0) | (in.ids_BS >= vocab_size)) & (in.mask_BS == 1);
  VEOMNI_CHECK_CONFIG(!wrong.any().item<bool>(), path,
                      ": input_ids holds ids outside the vocabulary [0, ", vocab_size, ")");
  if (file.has("labels")) {
    in.targets_BS =
        shift_labels(read_like_ids(file, "labels", in.ids_BS), in.mask_BS, path + ": labels");
  }
  if (file.has("cotangent")) {
    in.cotangent_BSV = read_tensor(file, "cotangent");
    const std::vector<int64_t> expected = {in.ids_BS.size(0), in.ids_BS.size(1), vocab_size};
    VEOMNI_CHECK_CONFIG(in.cotangent_BSV.sizes() == expected, path, ": cotangent has shape ",
                        io::shape_text(in.cotangent_BSV.sizes()), ", logits ",
                        io::shape_text(expected));
  }
  for (const auto& [modality, encoder] : model.encoders()) {
    auto media = read_encoder_media(file, modality, *encoder);
    if (!media) continue;
    const std::string key = modality + "_token_id";
    VEOMNI_CHECK_CONFIG(config.contains(key), path, ": config.json has no ", key,
                        ", so nothing says where the ", modality, " features belong");
    in.placeholder[modality] = config[key].get<int64_t>();
    in.media[modality] = std::move(*media);
  }
  return in;
}

namespace {

// Walks the rows in order and gives each row's placeholders its items.
class ItemDealer {
 public:
  ItemDealer(const ForwardInput& in, model::OmniModel& model) : in_(in), model_(model) {}

  // The items of the next row, whose tokens' ids are given.
  std::vector<data::MediaItem> next_row(int64_t row, const std::vector<int32_t>& ids) {
    std::vector<data::MediaItem> items;
    for (const auto& [modality, media] : in_.media) {
      const int64_t pad = in_.placeholder.at(modality);
      int64_t& next = next_item_[modality];
      for (size_t t = 0; t < ids.size();) {
        if (ids[t] != pad) {
          ++t;
          continue;
        }
        VEOMNI_CHECK_CONFIG(next < static_cast<int64_t>(media.grids.size()), in_.path, ": row ",
                            row, " has ", modality, " placeholders at token ", t, ", but all ",
                            media.grids.size(), " items are used");
        items.push_back(item(modality, media, next++, static_cast<int64_t>(t)));
        const size_t end = t + items.back().features->tokens;
        for (; t < end; ++t) {
          VEOMNI_CHECK_CONFIG(t < ids.size() && ids[t] == pad, in_.path, ": row ", row, ": ",
                              modality, " item ", next - 1, " makes ",
                              items.back().features->tokens,
                              " tokens, but its placeholders end at token ", t);
        }
      }
    }
    std::sort(items.begin(), items.end(),
              [](const auto& a, const auto& b) { return a.begin < b.begin; });
    return items;
  }

  void check_all_used() const {
    for (const auto& [modality, media] : in_.media) {
      const auto used = next_item_.find(modality);
      const int64_t count = used == next_item_.end() ? 0 : used->second;
      VEOMNI_CHECK_CONFIG(count == static_cast<int64_t>(media.grids.size()), in_.path, ": has ",
                          media.grids.size(), " ", modality, " items, but placeholders for ",
                          count);
    }
  }

 private:
  data::MediaItem item(const std::string& modality, const ForwardMedia& media, int64_t index,
                       int64_t begin) const {
    auto features = std::make_shared<media::Features>();
    const auto taken = media.take({index}).features_PF.contiguous();
    features->values.assign(taken.const_data_ptr<float>(),
                            taken.const_data_ptr<float>() + taken.numel());
    features->rows = taken.size(0);
    features->width = taken.size(1);
    features->grid = media.grids[index];
    features->tokens = model_.encoder(modality).num_tokens(features->grid);
    features->token_grid = model_.encoder(modality).token_grid(features->grid);
    return {modality, false, begin, std::move(features)};
  }

  const ForwardInput& in_;
  model::OmniModel& model_;
  std::map<std::string, int64_t> next_item_;
};

}  // namespace

PackedRows pack_rows(const ForwardInput& in, model::OmniModel& model, int rank, int world) {
  data::MicroBatch mine;
  std::vector<torch::Tensor> slots;
  ItemDealer dealer(in, model);
  const int64_t B = in.ids_BS.size(0), S = in.ids_BS.size(1);
  for (int64_t b = 0; b < B; ++b) {
    const auto columns = in.mask_BS[b].nonzero().flatten();
    if (columns.size(0) == 0) continue;
    data::Sample sample;
    const auto ids = in.ids_BS[b].index_select(0, columns).contiguous();
    sample.ids.assign(ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + ids.numel());
    sample.labels.assign(sample.ids.size(), kIgnored);
    sample.media = dealer.next_row(b, sample.ids);
    if (b % world != rank) continue;
    slots.push_back(columns + b * S);
    mine.samples.push_back(std::move(sample));
  }
  dealer.check_all_used();
  const auto slot_T = slots.empty() ? torch::empty({0}, torch::kLong) : torch::cat(slots);
  const int axes = static_cast<int>(model.foundation().position_axes());
  auto batch = data::collate(mine, axes);
  if (in.positions_ABS.defined()) {
    auto positions = in.positions_ABS.flatten(1).index_select(1, slot_T);
    batch.position_ids_T = axes == 1 ? positions[0] : positions;
  }
  PackedRows packed{batch_input(batch), slot_T};
  packed.input.labels_T = torch::Tensor();
  if (in.targets_BS.defined())
    packed.input.labels_T = in.targets_BS.reshape({-1}).index_select(0, slot_T);
  return packed;
}

}  // namespace veomni::train
