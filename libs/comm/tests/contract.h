// SPDX-License-Identifier: Apache-2.0
/// The contract of communicator.h as a suite: a test program compiles contract.cpp and
/// contract_failures.cpp, and each backend's test file instantiates CommunicatorContract.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <functional>
#include <string>
#include <tuple>

#include "veomni/comm/communicator.h"

namespace veomni::contract {

using namespace std::chrono_literals;
using ::testing::AnyOf;
using ::testing::HasSubstr;

struct Backend {
  std::string name;
  /// Runs body on every rank of a job of `size`; throws the first failure of those that run in this
  /// process.
  std::function<void(int size, std::chrono::milliseconds timeout,
                     const std::function<void(Communicator&)>& body)>
      run;
  /// Whether run() runs one rank, and other processes the others.
  bool processes = false;
};

class CommunicatorContract : public ::testing::TestWithParam<std::tuple<Backend, int>> {
 protected:
  int size() const { return std::get<1>(GetParam()); }
  int ranks_here() const { return std::get<0>(GetParam()).processes ? 1 : size(); }
  void run(const std::function<void(Communicator&)>& body,
           std::chrono::milliseconds timeout = 20s) const {
    std::get<0>(GetParam()).run(size(), timeout, body);
  }
  /// The message run() throws, or "".
  std::string failure_of(const std::function<void(Communicator&)>& body,
                         std::chrono::milliseconds timeout = 20s) const {
    try {
      run(body, timeout);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
};

inline std::string param_name(const ::testing::TestParamInfo<std::tuple<Backend, int>>& info) {
  return std::get<0>(info.param).name + std::to_string(std::get<1>(info.param));
}

}  // namespace veomni::contract
