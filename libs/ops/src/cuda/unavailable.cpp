// SPDX-License-Identifier: Apache-2.0
// Linked where there are no CUDA kernels: every launch on a CUDA tensor says so.
#include "kernels/kernel_list.h"
#include "veomni/base/error.h"

namespace veomni::ops::cuda {

#define VEOMNI_OPS_DEFINE_UNAVAILABLE(Args)                                                     \
  void run(const Args&) {                                                                       \
    throw_error("ops: no CUDA kernel for " #Args " in this build; place the model on the CPU"); \
  }
VEOMNI_OPS_KERNELS(VEOMNI_OPS_DEFINE_UNAVAILABLE)

}  // namespace veomni::ops::cuda
