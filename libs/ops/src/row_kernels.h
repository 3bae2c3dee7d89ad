// SPDX-License-Identifier: Apache-2.0
/// The deterministic scatter-add that rows and embedding share.
#pragma once

#include "launch.h"

namespace veomni::ops {

/// Elements of one row of x.
int64_t row_width(const Tensor& x);

/// y[t] = base[t] + Σ_{r: index[r] = t} source[r]; base may be undefined (zeros). y has source's
/// dtype or its acc.
void scatter_add_rows(const char* op, const Tensor& source, const Tensor& index, const Tensor& base,
                      const Tensor& y);

}  // namespace veomni::ops
