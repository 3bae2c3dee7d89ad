// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/embed_scatter.h"

#include "veomni/base/error.h"

namespace veomni::nn {

torch::Tensor LocalScatter::deliver(torch::Tensor rows_PD, const Routes& routes) {
  VEOMNI_CHECK(rows_PD.size(0) == routes.tokens.size(0), "an encoder made ", rows_PD.size(0),
               " rows for ", routes.tokens.size(0),
               " placeholder tokens; the processor and the encoder disagree");
  return rows_PD;
}

void ScatterSlot::set_scatter(std::shared_ptr<EmbedScatter> scatter) {
  scatter_ = scatter ? std::move(scatter) : std::make_shared<LocalScatter>();
}

}  // namespace veomni::nn
